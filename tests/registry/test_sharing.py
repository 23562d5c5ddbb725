"""Registries as single files: what goes out comes in, apart from what is here, and a hostile file changes nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import models
from calls import run
from modelkin_indexer.errors import SharedFileError
from modelkin_indexer.results.beside import Claim, SourceFile
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import private_key
from modelkin_registry.registry import Registry
from modelkin_registry.sharing.shared_files import MANIFEST, MODELS
from shared_archives import Entries, rewritten

README = "README.md"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fingerprint]:
    """Two models in full, the first at level probe and trained on too, and a third."""
    folder = tmp_path_factory.mktemp("models")
    one, two = models.llama(1, layers=2), models.llama(2, layers=2)
    return {
        "one": models.fingerprint(folder / "one", one),
        "one, sampled": models.fingerprint(folder / "one", one, level="probe"),
        "one, tuned": models.fingerprint(folder / "tuned", models.trained_on(one, 5, 0.1)),
        "two": models.fingerprint(folder / "two", two),
        "three": models.fingerprint(folder / "three", models.llama(3, layers=2), level="probe"),
    }


def told(registry: Registry) -> dict[str, Any]:
    """What a registry tells of its models that an import keeps: contents, levels, present claims."""
    return {
        name: (
            [(one["content"], one["files"], {two["level"] for two in one["fingerprints"]}) for one in shown["revisions"]],
            {(claim["kind"], claim["value"], claim["source"]) for claim in shown["claims"] if claim["current"]},
        )
        for name, shown in ((name, registry.show(name)) for name in registry.store.names())
    }


def sound(registry: Registry) -> bool:
    return {finding.state for finding in registry.examine()} == {"ok"}


def test_a_registry_comes_in_whole(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b:
        files = [SourceFile("model.safetensors", 5, "d")]
        a.add("org/m", found["one"], origin="/m@1", files=files, claims=[Claim("license", "mit", README), Claim("tag", "x", README)])
        a.add("org/m", found["one, tuned"], origin="/m@2", files=files, claims=[Claim("license", "apache", README)])
        a.add("n", found["three"], origin="/n", files=files)
        a.export(tmp_path / "f")
        taken, digest = b.take_in(tmp_path / "f")
        assert [one.status for one in taken] == ["added", "added"]
        assert told(b) == told(a)
        assert sound(b)
        assert [one.model for one in b.query(found["one, tuned"]).relatives] == ["org/m"]
        assert {line.model: (line.sender, line.source) for line in b.list()} == {"n": ("f", "from f: /n"), "org/m": ("f", "from f: /m@2")}
        assert b.show("n")["revisions"][0]["sources"][0]["who"] == "local (from f)"
        again, same = b.take_in(tmp_path / "f")
        assert ({one.status for one in again}, same) == ({"unchanged"}, digest)
        assert told(b) == told(a)


def test_the_same_registry_gives_the_same_bytes(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a:
        a.add("m", found["one"])
        assert a.export(tmp_path / "f") == a.export(tmp_path / "g")
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes()


def test_what_is_here_already_is_passed_over(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b:
        a.add("m", found["one"], origin="/a/1", claims=[Claim("license", "mit", README)])
        b.add("m", found["one"], origin="/b/1", claims=[Claim("license", "gpl", README)])
        a.export(tmp_path / "f")
        before = b.show("m")
        assert [(one.given, one.name, one.status) for one in b.take_in(tmp_path / "f")[0]] == [("m", "m", "unchanged")]
        assert (b.show("m"), b.store.names()) == (before, ["m"])
        a.add("m", found["one, tuned"], origin="/a/2")
        a.export(tmp_path / "g")
        taken, _ = b.take_in(tmp_path / "g")
        assert [(one.name, one.status) for one in taken] == [(f"m#{a.store.get('m').content.split('-')[1][:8]}", "added")]
        assert b.show("m") == before
        assert [one["content"] for one in b.show(taken[0].name)["revisions"]] == [a.store.get("m").content]
        assert sound(b)


def test_a_name_alone_makes_no_model_the_same(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b:
        a.add("m", found["one"])
        b.add("m", found["two"])
        a.export(tmp_path / "f")
        taken, _ = b.take_in(tmp_path / "f")
        assert [one.status for one in taken] == ["added"]
        assert b.store.names() == ["m", taken[0].name]
        assert taken[0].name == f"m#{a.store.get('m').content.split('-')[1][:8]}"
        assert b.store.get("m").content != a.store.get("m").content == b.store.get(taken[0].name).content
        assert [one.status for one in b.take_in(tmp_path / "f")[0]] == ["unchanged"]


def test_a_sender_goes_on_with_its_own_models(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b, Registry.open(tmp_path / "c.db") as c:
        a.add("m", found["one"])
        a.export(tmp_path / "1")
        b.take_in(tmp_path / "1", sender="them")
        a.add("m", found["one, tuned"])
        a.export(tmp_path / "2")
        assert [(one.name, one.status) for one in b.take_in(tmp_path / "2", sender="them")[0]] == [("m", "merged")]
        assert told(b) == told(a)
        c.add("m", found["two"])
        c.export(tmp_path / "3")
        (other,) = b.take_in(tmp_path / "3", sender="them")[0]
        assert (other.status, other.name.startswith("m#")) == ("added", True)
        assert b.store.get("m").content == a.store.get("m").content


def test_a_model_renamed_there_is_known_by_its_former_name(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b:
        a.add("old", found["one"])
        b.add("old", found["one"])
        a.rename("old", "new")
        a.export(tmp_path / "f")
        assert [(one.given, one.name, one.status) for one in b.take_in(tmp_path / "f")[0]] == [("new", "old", "unchanged")]
        assert (b.store.names(), "new" in b.store) == (["old"], False)


def test_less_of_the_same_weights_is_nothing_new(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "full.db") as full, Registry.open(tmp_path / "probe.db") as probe:
        full.add("m", found["one"])
        probe.add("m", found["one, sampled"])
        full.export(tmp_path / "f")
        probe.export(tmp_path / "p")
        assert [one.status for one in full.take_in(tmp_path / "p")[0]] == ["unchanged"]
        (more,) = probe.take_in(tmp_path / "f")[0]
        assert (more.status, probe.store.get("m").level, probe.store.get(more.name).level) == ("added", "probe", "full")


@pytest.mark.parametrize("levels", [("one", "one, sampled"), ("one, sampled", "one")])
def test_both_levels_of_a_content_are_one_revision(tmp_path: Path, found: dict[str, Fingerprint], levels: tuple[str, str]) -> None:
    with Registry.open(tmp_path / "a.db") as a, Registry.open(tmp_path / "b.db") as b:
        for name in levels:
            a.add("m", found[name])
        a.export(tmp_path / "f")
        b.take_in(tmp_path / "f")
        for registry in (a, b):
            (revision,) = registry.show("m")["revisions"]
            assert {one["level"] for one in revision["fingerprints"]} == {"probe", "full"}
            assert registry.store.get("m").level == "full"
        assert a.add("m", found["one"]).status == a.add("m", found["one, sampled"]).status == "unchanged"
        assert sound(b)


def test_paths_are_left_out_when_asked(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    with Registry.open(tmp_path / "a.db") as a:
        claims = [Claim("name_or_path", "/home/somebody/base", "config.json"), Claim("base_model", "org/base", README)]
        a.add("m", found["one"], origin="/home/somebody/models/m", claims=claims)
        a.add("m", found["one"], origin="org/m@0123", who="hub")
        a.export(tmp_path / "f", paths=False)
        assert b"somebody" not in zipfile.ZipFile(tmp_path / "f").read(MODELS)
        with Registry.open(tmp_path / "b.db") as b:
            b.take_in(tmp_path / "f")
            assert {source["origin"] for source in b.show("m")["revisions"][0]["sources"]} == {"m", "org/m@0123"}
            assert [claim["value"] for claim in b.show("m")["claims"]] == ["org/base"]


def test_private_keys_stay_home(tmp_path: Path, found: dict[str, Fingerprint]) -> None:
    key = private_key(b"k" * 32)
    with Registry.open(tmp_path / "a.db", key_name=key.name) as private, Registry.open(tmp_path / "b.db") as b:
        with pytest.raises(SharedFileError, match="public key"):
            private.export(tmp_path / "f")
        assert not (tmp_path / "f").exists()
        b.add("m", found["one"])
        b.export(tmp_path / "f")
        with pytest.raises(SharedFileError, match="private key"):
            private.take_in(tmp_path / "f")


@pytest.fixture
def shared(tmp_path: Path, found: dict[str, Fingerprint]) -> Path:
    with Registry.open(tmp_path / "giver.db") as giver:
        giver.add("m", found["one"], claims=[Claim("license", "mit", README)])
        giver.add("n", found["three"])
        giver.export(tmp_path / "shared")
    return tmp_path / "shared"


def refused(registry: Path, file: Path, words: str) -> None:
    """The file gives an error that names it, and changes nothing."""
    with Registry.open(registry) as taker:
        with pytest.raises(SharedFileError, match=words) as caught:
            taker.take_in(file)
        assert str(file) in str(caught.value)
        assert taker.store.generation() == taker.store.count() == 0


def in_models(old: bytes, new: bytes) -> Callable[[Entries], None]:
    def change(entries: Entries) -> None:
        assert old in entries[MODELS]
        entries[MODELS] = entries[MODELS].replace(old, new, 1)

    return change


def in_manifest(**said: Any) -> Callable[[Entries], None]:
    return lambda entries: entries.update({MANIFEST: json.dumps(json.loads(entries[MANIFEST]) | said).encode()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_models(b'"name":"m"', b'"name":"\\u0000"'), "printable"),
        (in_models(b'"name":"m"', b'"name":"\\ud800"'), "surrogates"),
        (in_models(b'"name":"m"', b'"nome":"m"'), "exactly the fields"),
        (in_models(b'"size":', b'"size":-'), "no count"),
        (in_models(b'"size":', b'"size":NaN,"x":'), "NaN"),
        (in_models(b'"digest":"', b'"digest":"../../x'), "digest"),
        (in_models(b'"first_seen":"2', b'"first_seen":"x'), "UTC"),
        (in_models(b'"revisions":[{', b'"revisions":' + b"[" * 100_000), "damaged"),
        (in_models(b'"revisions":[', b'"revisions":[],"x":['), "exactly the fields"),
        (lambda entries: entries.update({"../../evil": b"x"}), "other entries"),
        (lambda entries: entries.update({"fingerprints/../../evil": b"x"}), "no-such-words"),
        (lambda entries: entries.pop(next(name for name in entries if "fingerprints/" in name)), "damaged"),
        (in_manifest(version=2), "version 2"),
        (in_manifest(spec="99"), "spec '99'"),
        (in_manifest(key="private-1"), "private key"),
    ],
)
def test_files_of_a_hostile_author(tmp_path: Path, shared: Path, change: Callable[[Entries], None], words: str) -> None:
    rewritten(shared, change)
    if words == "no-such-words":  # an entry that nothing names is never read, whatever its name
        with Registry.open(tmp_path / "r.db") as taker:
            assert len(taker.take_in(shared)[0]) == 2
        assert not list(tmp_path.parent.glob("**/evil"))
        return
    refused(tmp_path / "r.db", shared, words)


def test_a_fingerprint_that_is_none_changes_nothing(tmp_path: Path, shared: Path) -> None:
    """Digests are right, so only reading the fingerprint itself can tell."""

    def change(entries: Entries) -> None:
        bad = b"no fingerprint"
        digest = blake3(bad).hexdigest()
        lines = entries[MODELS].splitlines()
        model = json.loads(lines[1])
        model["revisions"][0]["fingerprints"][0] |= {"digest": digest, "size": len(bad)}
        entries[MODELS] = b"\n".join([lines[0], json.dumps(model).encode(), b""])
        entries[f"fingerprints/{digest}.modelkin"] = bad

    rewritten(shared, change)
    refused(tmp_path / "r.db", shared, "not a fingerprint")


def test_altered_parts_do_not_agree_with_their_digests(tmp_path: Path, shared: Path) -> None:
    rewritten(shared, in_models(b'"mit"', b'"mot"'), consistent=False)
    refused(tmp_path / "r.db", shared, "not what modelkin.json says")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_flipped_bits_and_cut_ends(tmp_path: Path, shared: Path, at: float, bit: int, cut: bool) -> None:
    data = bytearray(shared.read_bytes())
    place = int(at * len(data))
    if cut:
        del data[place:]
    else:
        data[place] ^= 1 << bit
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data)
    registry = tmp_path / "taker.db"
    registry.unlink(missing_ok=True)
    with Registry.open(registry) as taker:
        try:
            taken, _ = taker.take_in(damaged)
        except SharedFileError:
            assert taker.store.generation() == taker.store.count() == 0
        else:  # a bit that means nothing, such as one of an entry's date
            assert not cut
            assert len(taken) == taker.store.count() == 2


@pytest.mark.parametrize("content", [b"", b"PK", b"\0" * 100, b"SQLite format 3\0" * 10])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "r.db", tmp_path / "file", "no registry export")
    refused(tmp_path / "r.db", tmp_path / "nothing there", "cannot be read")


def test_the_verbs(filled: Path) -> None:
    out = run("export", "shared", "--json")
    assert out.exit_code == 0
    said = json.loads(out.stdout)
    assert (said["models"], said["bytes"]) == (2, (filled / "shared").stat().st_size)
    assert run("export", "shared").exit_code == 3
    taken = json.loads(run("import", "shared", "--json", registry="other.db").stdout)
    assert (taken["models"], taken["added"], taken["renamed"]) == (2, 2, [])
    assert run("list", "-q", registry="other.db").stdout == run("list", "-q").stdout
    (filled / "shared").write_bytes((filled / "shared").read_bytes()[:-100])
    bad = run("import", "shared", registry="other.db")
    assert bad.exit_code == 3
    assert "shared" in bad.stderr
