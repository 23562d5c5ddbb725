"""Private keys: made, shown, rotated; and a registry's models read again under one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

import modelkin
from calls import run
from modelkin.errors import RegistryError, UnusableKey
from modelkin_indexer import sketch
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.answers.parts import NOTHING_FOUND, RELATED
from modelkin_registry.answers.relations import is_descent
from tiny_models import save_model, tiny_llama


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    made = modelkin.key("new", tmp_path / "our.key")
    secret = (tmp_path / "our.key").read_text().strip()
    assert stat.S_IMODE((tmp_path / "our.key").stat().st_mode) == 0o600
    assert made.commitment == "sha256:" + hashlib.sha256(bytes.fromhex(secret)).hexdigest()
    assert modelkin.key("show", tmp_path / "our.key") == made
    assert secret not in json.dumps(made.to_dict())
    with pytest.raises(UnusableKey, match=r"our\.key: is there already"):
        modelkin.key("new", tmp_path / "our.key")
    assert (tmp_path / "our.key").read_text().strip() == secret


def test_rotation_keeps_the_former_key(tmp_path: Path) -> None:
    first = modelkin.key("new", tmp_path / "our.key")
    second = modelkin.key("rotate", tmp_path / "our.key")
    assert second.key != first.key
    assert second.former == str(tmp_path / f"our.key.{first.key}")
    assert modelkin.key("show", second.former).commitment == first.commitment
    assert modelkin.key("show", tmp_path / "our.key").commitment == second.commitment
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["our.key", Path(second.former).name])


@pytest.mark.parametrize("action", ["show", "rotate"])
@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31])
def test_what_is_no_key_is_refused_and_left(tmp_path: Path, action: str, content: str) -> None:
    path = tmp_path / "no.key"
    path.write_text(content)
    with pytest.raises(UnusableKey, match=r"no\.key: holds neither 32 bytes nor 64 hex digits"):
        modelkin.key(action, path)  # type: ignore[arg-type]
    assert path.read_text() == content


def test_a_rotation_that_was_killed_goes_on(tmp_path: Path) -> None:
    first = modelkin.key("new", tmp_path / "our.key")
    (tmp_path / f"our.key.{first.key}").write_bytes((tmp_path / "our.key").read_bytes())  # kept, and no key drawn after it
    second = modelkin.key("rotate", tmp_path / "our.key")
    assert modelkin.key("show", str(second.former)).commitment == first.commitment
    (tmp_path / f"our.key.{second.key}").write_text("11" * 32)
    with pytest.raises(UnusableKey, match="no key is written over"):  # something else of that name
        modelkin.key("rotate", tmp_path / "our.key")
    assert modelkin.key("show", tmp_path / "our.key").key == second.key


def test_a_key_that_cannot_be_written_whole_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = modelkin.key("new", tmp_path / "our.key")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    for action, file in (("new", "other.key"), ("rotate", "our.key")):
        with pytest.raises(UnusableKey, match="No space left"):
            modelkin.key(action, tmp_path / file)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["our.key"]
    assert modelkin.key("show", tmp_path / "our.key").key == first.key


def test_a_registry_is_made_under_a_key_and_keeps_it(filled: Path) -> None:
    key = modelkin.key("new", "our.key").key
    made = run("registry", "new", "private.db", "--private", "--key-file", "our.key", "--json")
    assert json.loads(made.stdout) == {"contract": 1, "registry": "private.db", "key": key}
    assert modelkin.list(registry="private.db", key_file="our.key").models == ()
    with pytest.raises(RegistryError, match=f"made with key '{key}', opened with 'public'"):
        modelkin.add("parent", registry="private.db")
    assert {one.status for one in modelkin.refresh("private.db", "our.key", registry="r.db").results} == {"renewed"}
    answer = modelkin.query("child", registry="private.db", key_file="our.key")
    assert (answer.registry.key, answer.relatives[0].model) == (key, "parent")


@pytest.mark.parametrize("file", ["new.db", None])
def test_a_registry_without_a_private_key_is_public(models: Path, file: str | None) -> None:
    made = modelkin.new_registry(file, registry="r.db")
    assert (made.registry, made.key) == (file or "r.db", "public")
    assert modelkin.list(registry=made.registry).models == ()


def test_the_users_own_registry_is_made_without_the_starter_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkin.registries.user_registry", lambda: models / "share" / "registry.db")
    made = modelkin.new_registry()
    assert made.registry == str(models / "share" / "registry.db")
    assert modelkin.list().models == ()


@pytest.mark.parametrize("key_file", [None, "public"])
def test_a_private_registry_needs_a_private_key(models: Path, key_file: str | None) -> None:
    with pytest.raises(UnusableKey, match=r"new\.db: no private key was given"):
        modelkin.new_registry("new.db", private=True, key_file=key_file)
    with pytest.raises(UnusableKey, match=r"none\.key: No such file"):
        modelkin.new_registry("new.db", private=True, key_file="none.key")
    assert not Path("new.db").exists()


def test_no_registry_is_made_over_what_is_there(filled: Path) -> None:
    key = kept_under_two_keys(filled)
    held = Path("r.db").read_bytes()
    Path("folder.db").mkdir()
    Path("gone.db").symlink_to("nowhere")
    for name in ("r.db", "folder.db", "gone.db", "our.key"):
        with pytest.raises(RegistryError, match=f"{name}: is there already"):
            modelkin.new_registry(name)
    Path("r.db").rename("elsewhere.db")  # its part under the private key is what that key would find
    with pytest.raises(RegistryError, match=rf"r\.db\.{key}: is there already"):
        modelkin.new_registry("r.db", key_file="our.key")
    assert Path("elsewhere.db").read_bytes() == held
    assert run("registry", "new", "no/folder.db").exit_code == 4


def test_models_are_read_again_under_another_key(filled: Path) -> None:
    modelkin.key("new", "our.key")
    assert modelkin.query("child", registry="r.db").verdict == RELATED
    first = modelkin.refresh("private.db", "our.key", registry="r.db")
    assert {one.model: one.status for one in first.results} == {"parent": "renewed", "stranger": "renewed"}
    answer = modelkin.query("child", registry="private.db", key_file="our.key")
    assert (answer.relatives[0].model, answer.registry.key) == ("parent", first.key)
    again = modelkin.refresh("private.db", "our.key", registry="r.db")
    assert {one.status for one in again.results} == {"there"}


def test_what_is_not_at_hand_is_told_and_found_in_a_folder_that_is_named(filled: Path) -> None:
    modelkin.key("new", "our.key")
    Path("elsewhere").mkdir()
    Path("parent").rename("elsewhere/parent")
    told = run("refresh", "private.db", "our.key", "--json", registry="r.db")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert {line["model"]: line["status"] for line in lines} == {"parent": "left", "stranger": "renewed"}
    assert "--from" in lines[0]["reason"]
    found = modelkin.refresh("private.db", "our.key", places=["elsewhere"], registry="r.db")
    assert {one.model: one.status for one in found.results} == {"parent": "renewed", "stranger": "there"}


def test_other_weights_do_not_take_a_models_name(filled: Path) -> None:
    modelkin.key("new", "our.key")
    Path("elsewhere").mkdir()
    Path("stranger").rename("elsewhere/parent")
    found = modelkin.refresh("private.db", "our.key", places=["elsewhere"], registry="r.db")
    assert {one.model: one.status for one in found.results} == {"parent": "left", "stranger": "left"}
    assert "other weights are there now" in str(found.results[0].reason)


def test_of_an_imported_model_only_its_weights_are_taken(filled: Path) -> None:
    """And only from a place that was named: its origin, and what is said of it, is its sender's word."""
    modelkin.key("new", "our.key")
    Path("theirs").mkdir()
    Path("parent").rename("theirs/parent")
    Path("theirs/parent/README.md").write_text("---\nbase_model: stranger\n---\n")
    modelkin.add("theirs/parent", registry="their.db")
    modelkin.export("sent.modelkin-registry", registry="their.db")
    modelkin.remove("parent", registry="r.db")
    modelkin.import_("sent.modelkin-registry", registry="r.db")
    Path("theirs/parent/README.md").unlink()
    told = {one.model: one for one in modelkin.refresh("private.db", "our.key", registry="r.db", hub=True).results}
    assert (told["parent"].status, told["stranger"].status) == ("left", "renewed")
    assert "imported from sent.modelkin-registry" in str(told["parent"].reason)
    told = {one.model: one for one in modelkin.refresh("private.db", "our.key", registry="r.db", places=["theirs"]).results}
    assert (told["parent"].status, told["stranger"].status) == ("renewed", "there")
    shown = modelkin.show("parent", registry="private.db", key_file="our.key")
    assert not [claim for claim in shown.claims if claim["kind"] == "base_model"]
    assert shown.revisions[0]["sources"][0]["origin"] == str(Path("theirs/parent").resolve())


def kept_under_two_keys(filled: Path) -> str:
    """The registry's models under the public key and a private one. Returns the private one's name.

    A fixed one: of matrices of 48 rows one key in six samples so many of the public key's rows that it sees what was made for that.
    """
    Path("our.key").write_text("11" * 32)
    found = modelkin.refresh("r.db", "our.key", registry="r.db")
    assert found.registry == f"r.db.{found.key}"
    with pytest.raises(RegistryError, match="is of the key public already"):
        modelkin.refresh("r.db", "public", registry="r.db")
    return found.key


def test_a_registry_keeps_its_models_under_several_keys(filled: Path) -> None:
    key = kept_under_two_keys(filled)
    alone = modelkin.query("child", registry="r.db", key_file="our.key")
    assert (alone.registry.key, alone.relatives[0].model, alone.under_keys) == (key, "parent", None)
    both = modelkin.query("child", registry="r.db", key_file=["public", "our.key"])
    assert both.verdict == RELATED
    assert [one.model for one in both.relatives] == ["parent"]
    assert {(row.key, row.model, row.relation) for row in both.under_keys or ()} == {
        (name, "parent", both.relatives[0].relation) for name in ("public", key)
    }
    assert f"child was asked under 2 keys: public (2 models), {key} (2 models)." in both.explanation[1]
    assert not [warning for warning in both.warnings if "not under" in warning]
    told = run("query", "child", "--key-file", "public", "--key-file", "our.key", "--json", registry="r.db")
    assert json.loads(told.stdout)["under_keys"] == [row.to_dict() for row in both.under_keys or ()]
    assert Path("our.key").read_text().strip() not in told.output
    assert run("doctor", "--key-file", "our.key", registry="r.db").exit_code == 0


def test_what_only_the_public_key_shows_is_no_relative(filled: Path) -> None:
    """A stranger with the sampled rows of a registered model: at level probe a copy to whoever knows the key."""
    key = kept_under_two_keys(filled)
    parent, forged = tiny_llama(1), tiny_llama(77)
    for name, values in parent.items():
        if values.ndim == 1:
            forged[name] = values
            continue
        for block in sketch.chosen_rows(PUBLIC_KEY, *values.shape):
            forged[name][block.start : block.stop] = values[block.start : block.stop]
    save_model(Path("forged"), forged)
    assert modelkin.query("forged", registry="r.db", level="probe").verdict == RELATED
    answer = modelkin.query("forged", registry="r.db", key_file=["public", "our.key"], level="probe")
    assert answer.verdict != RELATED
    assert not [one for one in answer.relatives if is_descent(one)]
    assert any(f"parent: related under public, and not under {key}" in warning for warning in answer.warnings)


def test_what_is_not_kept_under_the_private_key_is_not_lost(filled: Path) -> None:
    key = kept_under_two_keys(filled)
    modelkin.remove("parent", registry="r.db", key_file="our.key")
    answer = modelkin.query("child", registry="r.db", key_file=["our.key", "public"])
    assert (answer.verdict, answer.relatives[0].model) == (RELATED, "parent")
    assert [(row.key, row.model) for row in answer.under_keys or ()] == [("public", "parent")]
    assert key in answer.explanation[1]


def test_several_keys_are_for_queries(filled: Path) -> None:
    kept_under_two_keys(filled)
    with pytest.raises(UnusableKey, match="2 keys were given"):
        modelkin.list(registry="r.db", key_file=["public", "our.key"])
    assert run("list", "--key-file", "public", "--key-file", "our.key", registry="r.db").exit_code == 2
    with pytest.raises(UnusableKey, match="--confirm"):
        modelkin.query("child", registry="r.db", key_file=["public", "our.key"], confirm=True)
    modelkin.key("new", "other.key")
    with pytest.raises(RegistryError, match=r"modelkin refresh r\.db KEY_FILE --registry r\.db"):
        modelkin.query("child", registry="r.db", key_file=["public", "other.key"])


def test_under_the_public_key_nothing_found_says_what_that_is_worth(filled: Path) -> None:
    """Whoever knows the key can avoid what it looks at; a private key's answer has no such sentence."""
    modelkin.key("new", "our.key")
    modelkin.refresh("private.db", "our.key", registry="r.db")
    for registry, key_file, worth in (("r.db", None, True), ("private.db", "our.key", False)):
        assert modelkin.remove("parent", registry=registry, key_file=key_file)
        answer = modelkin.query("child", registry=registry, key_file=key_file)
        assert answer.verdict == NOTHING_FOUND
        assert any("key is public" in sentence for sentence in answer.explanation) == worth


def test_a_comparison_that_found_nothing_says_what_that_is_worth(models: Path) -> None:
    modelkin.key("new", "our.key")
    for key_file, worth in ((None, True), ("our.key", False)):
        answer = modelkin.compare("child", "stranger", key_file=key_file)
        assert answer.verdict == NOTHING_FOUND
        assert any(warning.startswith("The key is public") for warning in answer.warnings) == worth
    related = modelkin.compare("child", "parent").warnings
    assert not any("shows nothing of what it was made from" in warning for warning in related)
