"""Opening a registry: what is refused, and in which words; migrations."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_utils

from modelkin_indexer.errors import RegistryError
from modelkin_registry import doctor
from modelkin_registry.registry import Registry
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.sqlite import connecting as connection
from modelkin_registry.store.sqlite import schema
from modelkin_registry.store.sqlite.marks import APPLICATION_ID, STEPS
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import real_record, record, rows, rows_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


# opening


def test_hostile_paths(tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("not a database at all, only words. " * 100)
    other = tmp_path / "other.sqlite"
    sqlite_utils.Database(other).table("t").insert({"a": 1})
    (tmp_path / "empty").touch()
    wanted = {
        "words.txt": "not a registry",
        "other.sqlite": "not a registry",
        ".": "is a folder",
        "missing/r": "does not exist",
        "new": "modelkin add",
        "empty": "empty",
    }
    for name, words in wanted.items():
        with pytest.raises(RegistryError, match=words):
            SqliteStore.open(tmp_path / name, create=False)
    for name in ("words.txt", "other.sqlite", "missing/r"):
        with pytest.raises(RegistryError):
            SqliteStore.open(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "other.sqlite", "words.txt"]
    assert sqlite_utils.Database(other).table_names() == ["t"]


@pytest.mark.parametrize("text", ["", ".", "/"])
def test_a_path_that_names_no_file_is_refused(text: str) -> None:
    """A variable of a script that was never set."""
    with pytest.raises(RegistryError, match="no file is named"):
        Registry.open(text)


def test_a_new_registry_appears_whole_or_not_at_all(path: Path) -> None:
    """A process that dies while it makes one leaves nothing under the registry's name."""
    stop = "import os; from modelkin_registry.store.sqlite import schema, store; schema.bring_up_to_date = lambda _: os._exit(9)"
    dies = f"{stop}; store.SqliteStore.open(__import__('pathlib').Path({str(path)!r}))"
    ended = subprocess.run([sys.executable, "-c", dies], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert ended.returncode == 9
    assert not path.exists()
    with SqliteStore.open(path) as store:
        store.put(record("m"), rows(0))
    assert path.exists()


def test_a_registry_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with appearing(path) as unfinished:
        unfinished.write_text("mine")
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_registry_has_the_permissions_of_any_new_file(path: Path) -> None:
    SqliteStore.open(path).close()
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("keep", [3000, 8192, 40_000, -8192])
def test_a_truncated_registry_is_refused(path: Path, keep: int) -> None:
    with SqliteStore.open(path) as store:
        for number in range(5):
            store.put(record(f"m{number}", blob=os.urandom(30_000)), rows(number))
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(RegistryError, match=r"registry.sqlite: it is (damaged|not a registry)"):
        SqliteStore.open(path)


def test_a_damaged_page_is_a_registry_error_when_met(path: Path) -> None:
    with SqliteStore.open(path) as store:
        for number in range(40):
            store.put(record(f"m{number}", blob=os.urandom(3000)), rows(number))
    content = bytearray(path.read_bytes())
    content[8192 * 4 :] = os.urandom(len(content) - 8192 * 4)
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="damaged"):
        read_all(path)


def read_all(path: Path) -> None:
    with SqliteStore.open(path) as store:
        store.stored(store.numbers())


def test_a_flipped_bit_in_a_blob_is_noticed(path: Path) -> None:
    with SqliteStore.open(path) as store:
        store.put(record("a", blob=b"x" * 100), rows(1))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"x" * 100, b"x" * 60 + b"y" + b"x" * 39))
    with SqliteStore.open(path) as store, pytest.raises(RegistryError, match="fingerprint of 'a' is damaged"):
        store.get("a")


def test_another_key_or_spec_is_refused(path: Path) -> None:
    SqliteStore.open(path, key_name="private-1").close()
    with pytest.raises(RegistryError, match="made with key 'private-1', opened with 'public'"):
        SqliteStore.open(path)
    with SqliteStore.open(path, key_name="private-1") as store:
        store.connection.execute("UPDATE meta SET spec = '0'")
    with pytest.raises(RegistryError, match="spec '0'"):
        SqliteStore.open(path, key_name="private-1")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(path: Path) -> None:
    SqliteStore.open(path).close()
    path.parent.chmod(0o500)
    try:
        with pytest.raises(RegistryError, match="permissions"):
            SqliteStore.open(path)
    finally:
        path.parent.chmod(0o700)


def test_a_file_without_write_permission_is_explained(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqliteStore.open(path).close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RegistryError, match=r"cannot be written\. Check the permissions"):
        SqliteStore.open(path)


def test_what_sqlite_says_while_working_is_explained(path: Path) -> None:
    with SqliteStore.open(path) as store, SqliteStore.open(path) as other:
        other.connection.execute("PRAGMA busy_timeout = 0")
        with store.batch(), pytest.raises(RegistryError, match="another process has been writing"):
            other.put(record("a"))


# migrations


def test_the_first_step_never_changes() -> None:
    """A released step is frozen: registries in the field were made by it. A change needs a new step, not an edit of this one."""
    database = sqlite_utils.Database(memory=True)
    schema.migrations.apply(database, stop_before=STEPS[1])
    columns = {table.name: [column.name for column in table.columns] for table in database.tables}
    assert columns == {
        "_sqlite_migrations": ["id", "migration_set", "name", "applied_at"],
        "meta": ["id", "registry", "spec", "key", "created"],
        "model": ["id", "name", "added", "redirect_to"],
        "revision": ["id", "model", "content", "files", "parameters", "bytes_total", "config", "added"],
        "fingerprint": ["id", "revision", "level", "spec", "key", "coverage", "about", "digest", "bytes", "added"],
        "blob": ["fingerprint", "data"],
        "source": ["id", "revision", "who", "origin", "first_seen", "last_seen", "files"],
        "claim": ["id", "model", "kind", "value", "source", "first_seen", "last_seen"],
        "kind": ["name", "dims"],
        "vector": ["kind", "model", "component", "fingerprint", "layers", "data"],
        "change": ["seq", "model", "what", "at"],
    } | ({"sqlite_sequence": ["name", "seq"]} if "sqlite_sequence" in columns else {})


def test_the_steps_are_known_by_name_without_the_migrations() -> None:
    assert tuple(step.name for step in schema.migrations.pending(sqlite_utils.Database(memory=True))) == STEPS


def use_next_version(monkeypatch: pytest.MonkeyPatch, *, fails: bool = False) -> None:
    """Become a modelkin with one more migration, until undone."""
    newer = sqlite_utils.Migrations(schema.migrations.name)
    for step in schema.migrations.pending(sqlite_utils.Database(memory=True)):
        newer(name=step.name)(step.fn)

    @newer(name="next: remarks")
    def _remarks(database: sqlite_utils.Database) -> None:
        database.conn.execute("ALTER TABLE model ADD COLUMN remark TEXT")
        if fails:
            raise sqlite3.OperationalError("no")

    monkeypatch.setattr(schema, "migrations", newer)
    monkeypatch.setattr(connection, "STEPS", (*STEPS, "next: remarks"))


def test_an_older_registry_is_migrated_with_its_models(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore.open(path) as store:
        store.put(record("a"), rows(1))
    use_next_version(monkeypatch)
    with SqliteStore.open(path) as store:
        assert "remark" in {column.name for column in sqlite_utils.Database(store.connection).table("model").columns}
        assert store.get("a").blob == record("a").blob
        assert store.put(record("b"), rows(2)).status == "added"
    monkeypatch.undo()
    with pytest.raises(RegistryError, match="written by a newer modelkin"):
        SqliteStore.open(path)


def test_a_migration_that_fails_leaves_the_registry_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStore.open(path) as store:
        store.put(record("a"), rows(1))
    use_next_version(monkeypatch, fails=True)
    with pytest.raises(RegistryError):
        SqliteStore.open(path)
    monkeypatch.undo()
    with SqliteStore.open(path) as store:
        assert store.names() == ["a"]


def test_a_registry_of_the_fourth_step_is_searched_as_before(path: Path) -> None:
    """Search rows were the models' then; they are their newest revisions' now. Those of older ones are made by the doctor."""
    database = sqlite_utils.Database(path)
    schema.migrations.apply(database, stop_before=STEPS[4])
    with SqliteStore.open(path.with_name("new")) as new:
        for seed, name in enumerate("abb"):
            given = real_record(name, seed)
            new.put(given, rows_of(given.blob))
        names = new.names_of(new.numbers())
        new.connection.execute("ATTACH ? AS old", [str(path)])
        new.connection.execute(f"PRAGMA old.application_id = {APPLICATION_ID}")
        new.connection.execute("INSERT INTO old.model SELECT id, name, added, redirect_to FROM model")
        for table in ("meta", "revision", "fingerprint", "blob", "source", "claim"):
            columns = ", ".join(row["name"] for row in new.rows(f"PRAGMA old.table_info({table})"))
            new.connection.execute(f"INSERT INTO old.{table} SELECT {columns} FROM {table}")
        new.connection.execute("INSERT INTO old.kind SELECT name, dims FROM kind")
        new.connection.execute("INSERT INTO old.change SELECT seq, model, what, at FROM change")
        new.connection.execute(
            "INSERT INTO old.vector SELECT kind, model, component, vector.fingerprint, layers, data FROM vector "
            "JOIN searched ON searched.revision = vector.revision AND current"
        )
        wanted = [new.vectors.of(number) for number in new.numbers()]
    database.close()
    with SqliteStore.open(path) as store:
        assert [store.vectors.of(number) for number in store.numbers()] == [wanted[0], [], wanted[2]]
        assert (store.changed(0), store.names_of(store.numbers())) == ([1, 3], names)
        findings = doctor.examine(store, VectorIndex(store), repair=True, vectors_of=rows_of)
        assert {finding.detail.split(":")[0] for finding in findings if finding.state == "repaired"} == {names[2]}
        assert [store.vectors.of(number) for number in store.numbers()] == wanted
        assert [line.model for line in store.listed()] == ["a", "b"]
