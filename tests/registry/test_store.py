"""The SQLite store: whole or not at all, and its settings. What every store must do is in tests/contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import record, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def table_counts(store: SqliteStore) -> dict[str, int]:
    database = sqlite_utils.Database(store.connection)
    return {name: database.table(name).count for name in database.table_names() if name not in ("change", "kind")}


def test_remove_leaves_nothing_and_numbers_are_not_given_again(path: Path) -> None:
    with SqliteStore.open(path) as store:
        store.put(record("kept"), rows(1))
        before = table_counts(store)
        gone = store.put(record("gone"), rows(2))
        store.rename("gone", "soon gone")
        store.remove("gone")
        assert table_counts(store) == before
        assert store.put(record("gone"), rows(2)).model_id > gone.model_id


@pytest.mark.parametrize("step", ["_note_source", "claims.note_now", "_add_fingerprint", "_log"])
def test_a_put_that_fails_midway_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with SqliteStore.open(path) as store:
        store.put(record("before"), rows(1))
        before = table_counts(store), store.generation()

        def fail(*_: Any) -> None:
            raise OSError("pulled out")

        with monkeypatch.context() as patch:
            owner, _, name = step.rpartition(".")
            patch.setattr(getattr(store, owner) if owner else store, name, fail)
            with pytest.raises(OSError, match="pulled out"):
                store.put(record("half"), rows(2))
        assert (table_counts(store), store.generation()) == before
        assert store.put(record("half"), rows(2)).status == "added"


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    with SqliteStore.open(path) as writer:
        writer.put(record("a"), rows(1))
        with writer.batch():
            writer.put(record("b"), rows(1))
            with SqliteStore.open(path) as reader:
                reader.connection.execute("PRAGMA busy_timeout = 0")
                assert reader.names() == ["a"]
                assert reader.get("a").blob == record("a").blob


def test_settings(path: Path) -> None:
    with SqliteStore.open(path) as store:
        found = {
            name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "page_size")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "page_size": 8192}
