"""A registry that an older modelkin wrote opens, lists and says what to do; fingerprints are made anew where weights are at hand."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import modelkin
import models
from calls import run
from modelkin.errors import FingerprintError, RegistryError, SharedFileError
from modelkin_data import starter
from modelkin_indexer import spec
from modelkin_registry.registry import Registry
from modelkin_registry.store.digests import digest_of
from modelkin_registry.store.sqlite import connecting
from modelkin_registry.store.sqlite.store import SqliteStore

OLD = (
    Path(__file__).parents[1] / "data" / "registry_of_spec_1.db.gz"
)  # of models.llama(1..3, layers=1), read at level full by 0.1.0 (5b2a6c5)
SEEDS = {"kept": 1, "gone": 2, "changed": 3}


@pytest.fixture
def old(tmp_path: Path, own_folder: Path) -> Path:
    """That registry; of its models one lies where it was, one is gone, and one has other weights now."""
    path = tmp_path / "r.db"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE source SET origin = replace(origin, 'ORIGIN', ?)", [str(tmp_path)])
        connection.commit()
    models.write(tmp_path / "kept", models.llama(1, layers=1))
    models.write(tmp_path / "changed", models.llama(9, layers=1))
    return path


def test_it_opens_and_lists_and_says_what_to_do(old: Path, tmp_path: Path) -> None:
    found = run("list", "--json")
    assert found.exit_code == 0
    assert [one["model"] for one in json.loads(found.stdout)["models"]] == ["changed", "gone", "kept"]
    assert "3 fingerprints are of an older spec and not searched. Make them anew with `modelkin upgrade`" in run("list").stderr
    for call in (("query", "kept"), ("tree",), ("decompose", "kept"), ("compare", "kept", "gone"), ("export", "out.modelkin-registry")):
        answer = run(*call)
        assert answer.exit_code in (3, 4) or call[0] == "tree", call
        assert "modelkin upgrade" in answer.stderr, call
    assert run("show", "gone").exit_code == 0
    assert "not searched" in run("doctor", "--json").stdout
    assert json.loads(run("doctor", "--json").stdout)["clean"]


def test_what_is_at_hand_is_made_anew_and_the_rest_is_told(old: Path, tmp_path: Path) -> None:
    with Registry.open(old) as registry:
        before = registry.show("kept")
    result = run("upgrade", "--json")
    found = {one["model"]: one for one in map(json.loads, result.stdout.splitlines())}
    assert {name: one["status"] for name, one in found.items()} == {"kept": "renewed", "gone": "left", "changed": "left"}
    assert found["changed"]["reason"] == "other weights are there now"
    assert "not there any more" in found["gone"]["reason"]
    with Registry.open(old) as registry:
        assert registry.get("kept").about.spec == spec.VERSION
        after = registry.show("kept")
        assert [one["id"] for one in after["revisions"]] == [one["id"] for one in before["revisions"]]
        assert after["claims"] == before["claims"]
        assert len(after["revisions"][0]["fingerprints"]) == 1
        assert registry.store.count_revisions() == len(registry.store.numbers()) == 1
        with pytest.raises(FingerprintError, match="modelkin upgrade"):
            registry.get("gone")
    answer = json.loads(run("query", "kept", "--json").stdout)
    assert [(one["model"], one["relation"]) for one in answer["relatives"]] == [("kept", "identical")]
    assert answer["registry"]["models"] == 3
    assert [one["model"] for one in map(json.loads, run("upgrade", "--json").stdout.splitlines())] == ["gone", "changed"]


def test_adding_the_weights_again_makes_a_fingerprint_anew(old: Path, tmp_path: Path) -> None:
    """From wherever they are now; others are refused under the name."""
    models.write(tmp_path / "moved", models.llama(SEEDS["gone"], layers=1))
    assert run("add", "moved", "--as", "gone").exit_code == 0
    with Registry.open(old) as registry:
        assert registry.get("gone").about.spec == spec.VERSION
        assert len(registry.show("gone")["revisions"]) == 1
        assert registry.show("gone")["revisions"][0]["sources"][0]["origin"] == str(tmp_path / "moved")
    refused = run("add", "changed")
    assert refused.exit_code == RegistryError.exit_code
    assert "name 'changed' is that of another model here" in refused.stdout + refused.stderr


def test_models_that_come_with_modelkin_are_taken_from_there(old: Path) -> None:
    """A registry that was begun with an older starter registry."""
    packaged = starter.path()
    assert packaged is not None
    with Registry.open(shutil.copy(packaged, "begun.db"), create=False) as begun:
        name = begun.store.names()[0]
        origin, blob = begun.store.get(name).origin, begun.store.get(name).blob
    with closing(
        sqlite3.connect(old)
    ) as connection:  # as if an older version had read it: the digests of weights are the same in every spec
        connection.execute("UPDATE source SET origin = ? WHERE origin LIKE '%gone'", [origin])
        row = "(SELECT fingerprint.id FROM fingerprint JOIN source USING (revision) WHERE origin = ?)"
        connection.execute(f"UPDATE blob SET data = ? WHERE fingerprint = {row}", [blob, origin])
        connection.execute(f"UPDATE fingerprint SET digest = ?, bytes = ? WHERE id = {row}", [digest_of(blob), len(blob), origin])
        connection.commit()
    with modelkin.open(old) as registry:
        assert {one.model: one.status for one in registry.upgrade().results}["gone"] == "renewed"
        assert registry.get("gone").to_bytes() == blob


def test_the_hub_is_asked_only_on_request(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE source SET origin = 'org/name@0123' WHERE origin LIKE '%gone'")
        connection.commit()
    with modelkin.open(old, offline=True) as registry:
        assert {one.model: one.reason for one in registry.upgrade().results}["gone"] == "it is on the Hub: add --hub to read it again"
        assert "offline" in ({one.model: one.reason for one in registry.upgrade(hub=True).results}["gone"] or "").lower()


def test_an_imported_model_is_left(old: Path) -> None:
    with SqliteStore.open(old) as store:
        store.update("model", store.find("kept") or 0, sender="friend.zip")
    with modelkin.open(old) as registry:
        assert "imported" in ({one.model: one.reason for one in registry.upgrade().results}["kept"] or "")


def test_what_cannot_be_brought_up_to_date_says_so(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_may_write", lambda _: False)
    with pytest.raises(RegistryError, match="brought up to date"):
        Registry.open(old, create=False)


def test_a_newer_spec_is_refused_by_name(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE meta SET spec = '99'")
        connection.commit()
    with pytest.raises(RegistryError, match=r"spec '99'.*pip install --upgrade"):
        Registry.open(old)


def test_an_export_with_outdated_models_is_refused(old: Path, tmp_path: Path) -> None:
    with Registry.open(old) as registry, pytest.raises(SharedFileError, match="modelkin upgrade"):
        registry.export(tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_what_comes_with_modelkin_is_not_written_to(old: Path) -> None:
    """It may lie where nobody may write, and be of an older form than is written now."""
    packaged = starter.path()
    assert packaged is not None
    before = packaged.read_bytes()
    with modelkin.open(old) as registry:
        registry.upgrade()
    assert packaged.read_bytes() == before
