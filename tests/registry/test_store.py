"""The SQLite store: whole or not at all, from several processes at once. What every store must do is in tests/contract."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import record, rows

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 4


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


# several processes


def write_models(path: str, writer: int, count: int) -> None:
    with SqliteStore.open(Path(path)) as store:
        for number in range(count):
            store.put(record(f"w{writer}-{number}"), rows(writer * 1000 + number))


def read_models(path: str, wanted: int, failures: Any) -> None:
    deadline = time.monotonic() + 60
    with SqliteStore.open(Path(path)) as store:
        while (seen := store.count()) < wanted:
            for model in store.stored(store.numbers()).values():
                if len(store.vectors.of(model.revision)) != 3:
                    failures.put(model.name)
            if time.monotonic() > deadline:
                failures.put(f"only {seen} models came")
                return


def test_four_writers_and_a_reader_from_nothing(path: Path) -> None:
    """Also the race to create the file: all five start on a path without one."""
    failures = SPAWN.Queue()
    count = 15
    processes = [SPAWN.Process(target=write_models, args=(str(path), writer, count)) for writer in range(WRITERS)]
    processes.append(SPAWN.Process(target=read_models, args=(str(path), WRITERS * count, failures)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    assert failures.empty()
    with SqliteStore.open(path) as store:
        assert store.count() == WRITERS * count
        assert sqlite_utils.Database(store.connection).table("meta").count == 1
        assert [change.seq for change in store.changes()] == list(range(1, WRITERS * count + 1))


def add_until_killed(path: str, acknowledge: Any) -> None:
    with SqliteStore.open(Path(path)) as store:
        number = store.count()
        while True:
            name = f"m{number}"
            store.put(record(name, blob=name.encode() * 10_000), rows(number))
            acknowledge.send(name)
            number += 1


def test_a_killed_writer_loses_nothing_acknowledged(path: Path) -> None:
    acknowledged: list[str] = []
    for kill in range(4):
        receiver, sender = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=add_until_killed, args=(str(path), sender))
        process.start()
        sender.close()
        acknowledged += [receiver.recv() for _ in range(3 + kill)]
        process.kill()
        process.join()
        while receiver.poll():
            try:
                acknowledged.append(receiver.recv())
            except EOFError:
                break
        with SqliteStore.open(path) as store:
            assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert set(acknowledged) <= set(store.names())
            stored = store.stored(store.numbers())
            assert len(stored) == store.count() <= len(acknowledged) + 1 + kill
            assert all(len(store.vectors.of(number)) == 3 for number in stored)
