"""A registry that may not be written can be read, and says so where it would be written. Calls run without root's right to write."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from calls import command, environment
from modelkin_indexer.errors import RegistryError
from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_registry.registry import Registry
from modelkin_registry.search import index as vectors
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.sqlite import connecting as connection
from modelkin_registry.store.sqlite.marks import STEPS
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import real_fingerprint, record, rows

AS_ROOT = os.name == "posix" and os.geteuid() == 0
WITHOUT_RIGHTS = ("setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override") if AS_ROOT else ()
READONLY = "it cannot be written. Check the permissions"

needs_permissions = pytest.mark.skipif(os.name != "posix" or (AS_ROOT and shutil.which("setpriv") is None), reason="writes everywhere")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A registry of two models and a fingerprint to ask with."""
    with Registry.open(tmp_path / "r.db") as registry:
        for number in range(2):
            registry.add(f"m{number}", fingerprints.from_bytes(real_fingerprint(number)))
    (tmp_path / "asked.modelkin").write_bytes(real_fingerprint(0))
    yield tmp_path
    tmp_path.chmod(0o700)


def call(folder: Path, *arguments: str) -> tuple[int, str]:
    """One call in a process that may not write there. Nothing changes in the folder."""
    for path in folder.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    folder.chmod(0o500)
    before = contents(folder)
    done = subprocess.run(
        [*WITHOUT_RIGHTS, *command(*arguments)], capture_output=True, text=True, cwd=folder, env=environment(), check=False
    )
    assert contents(folder) == before
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in the folder. Locks come and go in the shared memory of the log, which says nothing."""
    return {path.name: b"" if path.name.endswith("-shm") else path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leave_a_log(folder: Path) -> None:
    """As after a writer that was killed: its last change is in the log alone."""
    with SqliteStore.open(folder / "r.db") as store:
        store.rename("m1", "only in the log")
        saved = {name: (folder / name).read_bytes() for name in ("r.db", "r.db-wal", "r.db-shm")}
    for name, content in saved.items():
        (folder / name).write_bytes(content)


READERS = [("list",), ("show", "m0"), ("query", "asked.modelkin"), ("compare", "m0", "asked.modelkin"), ("doctor", "--check"), ("doctor",)]


@needs_permissions
@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_what_only_reads_works(folder: Path, arguments: tuple[str, ...]) -> None:
    code, printed = call(folder, *arguments)
    assert code == 0, printed


@needs_permissions
def test_changes_in_a_log_are_read(folder: Path) -> None:
    leave_a_log(folder)
    code, printed = call(folder, "list")
    assert (code, "only in the log" in printed) == (0, True)


@needs_permissions
def test_a_log_that_cannot_be_read_is_not_passed_over(folder: Path) -> None:
    leave_a_log(folder)
    (folder / "r.db-shm").unlink()
    code, printed = call(folder, "list")
    assert (code, "its latest changes are in" in printed) == (RegistryError.exit_code, True)


@needs_permissions
@pytest.mark.parametrize("arguments", [("add", "asked.modelkin"), ("rename", "m0", "n"), ("remove", "m0", "--yes")], ids=" ".join)
@pytest.mark.parametrize("log", [False, True])
def test_what_writes_is_refused(folder: Path, arguments: tuple[str, ...], log: bool) -> None:
    if log:
        leave_a_log(folder)
    code, printed = call(folder, *arguments)
    assert (code, READONLY in printed) == (RegistryError.exit_code, True), printed


# without permissions of files: `os.access` says that nothing may be written


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with an index that every change makes too old."""
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 1)
    with SqliteStore.open(tmp_path / "r.db") as store:
        for number in range(2):
            store.put(record(f"m{number}"), rows(number))
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    return tmp_path / "r.db"


def test_the_index_is_never_built_in_reading(path: Path) -> None:
    asked = rows(1)[0]
    with SqliteStore.open(path, create=False) as store:
        index = VectorIndex.open(store)
        found = index.search(asked.kind, asked.rows, 1)
        with pytest.raises(RegistryError, match="no index is built"):
            index.rebuild()
        assert store.names_of(int(model) for model in found.revisions.ravel()) == {2: "m1"}
    assert not index.root.exists()


def test_an_index_is_read_but_not_mended(path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with monkeypatch.context() as may_write:
        may_write.setattr(os, "access", lambda *_: True)
        with SqliteStore.open(path) as store:
            VectorIndex(store).rebuild()
    with SqliteStore.open(path, create=False) as store:
        assert VectorIndex.open(store).generation == store.generation()
        (folder,) = (entry for entry in Path(f"{path}.index").iterdir() if entry.is_dir())
        for file in folder.iterdir():
            file.write_bytes(b"damaged")
        index = VectorIndex.open(store)
        assert index.search("sum/mlp", rows(1)[0].rows, 1).scores.shape == (1, 1)
        assert "cannot be used" in caplog.text
        assert all(file.read_bytes() == b"damaged" for file in folder.iterdir())


def test_a_store_opened_to_read_takes_no_change(path: Path) -> None:
    with SqliteStore.open(path, create=False) as store:
        assert store.read_only
        with pytest.raises(RegistryError, match=READONLY):
            store.put(record("new"), rows(9))
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            store.connection.execute("UPDATE meta SET key = 'x'")


def test_an_older_registry_that_cannot_be_written_is_explained(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STEPS", (*STEPS, "next"))
    with pytest.raises(RegistryError, match=r"brought up to date, but it cannot be written\. Run `modelkin list` once"):
        SqliteStore.open(path, create=False)
