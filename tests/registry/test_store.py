"""The store: what goes in comes out, whole or not at all, from several processes at once."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from modelkin_indexer.errors import RegistryError, UnknownModel
from modelkin_indexer.results.beside import Claim
from modelkin_registry.store.rows import IndexRows
from modelkin_registry.store.store import Store
from registry_helpers import record, rows, units

SPAWN = multiprocessing.get_context("spawn")
WRITERS = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def table_counts(store: Store) -> dict[str, int]:
    database = sqlite_utils.Database(store.connection)
    return {name: database.table(name).count for name in database.table_names() if name not in ("change", "kind")}


def test_get_returns_what_was_put(path: Path) -> None:
    given = record("org/a", config={"hidden_size": 8})
    with Store.open(path) as store:
        result = store.put(given, rows(1))
    with Store.open(path) as store:
        found = store.get("org/a")
        assert (result.status, result.model_id, result.revision) == ("added", found.model_id, found.revision)
        for field in (
            "name",
            "content",
            "level",
            "spec",
            "key",
            "parameters",
            "bytes_total",
            "coverage",
            "about",
            "config",
            "origin",
            "blob",
        ):
            assert getattr(found, field) == getattr(given, field)
        assert (store.count(), store.names(), store.ids()) == (1, ["org/a"], [found.model_id])
        assert store.blobs([found.model_id, 999]) == {found.model_id: given.blob}
        assert store.names_of([found.model_id, 999]) == {found.model_id: "org/a"}


def test_same_content_is_unchanged_and_its_source_refreshed(path: Path) -> None:
    with Store.open(path) as store:
        store.put(record(), rows(1))
        before, generation = store.show("m")["revisions"][0]["sources"][0], store.generation()
        assert store.put(record(claims=(Claim("license", "mit", "README"),)), rows(2)).status == "unchanged"
        after = store.show("m")["revisions"][0]["sources"]
        assert [source["first_seen"] for source in after] == [before["first_seen"]]
        assert after[0]["last_seen"] > before["last_seen"]
        assert store.put(record(who="somebody else")).status == "unchanged"
        assert [source["who"] for source in store.show("m")["revisions"][0]["sources"]] == ["somebody else", "tester"]
        assert {claim["kind"] for claim in store.show("m")["claims"]} == {"base_model", "license"}
        assert store.generation() == generation


def test_other_content_is_a_new_revision_and_the_one_searched(path: Path) -> None:
    with Store.open(path) as store:
        first = store.put(record(content="one", level="full"), rows(1))
        second = store.put(record(content="two"), rows(2))
        again = store.put(record(content="one"), rows(3))
        assert first.model_id == second.model_id == again.model_id
        assert first.revision < second.revision < again.revision
        assert (store.get("m").content, store.get("m").level) == ("one", "probe")
        assert [revision["content"] for revision in store.show("m")["revisions"]] == ["one", "two", "one"]
        assert store.listed()[0].revisions == 3
        assert {number for _, _, number, _, _ in store.vectors.of_model(first.model_id)} == {store.get("m").fingerprint}


@pytest.mark.parametrize("order", [("probe", "full"), ("full", "probe")])
def test_the_higher_level_stands_for_the_model(path: Path, order: tuple[str, str]) -> None:
    with Store.open(path) as store:
        revisions = {store.put(record(level=level), rows(seed)).revision for seed, level in enumerate(order)}
        assert len(revisions) == 1
        found = store.get("m")
        assert found.level == "full"
        assert len(store.show("m")["revisions"][0]["fingerprints"]) == 2
        vectors = store.vectors.of_model(found.model_id)
        assert {number for _, _, number, _, _ in vectors} == {found.fingerprint}
        assert units(order.index("full"), 1).astype("<f2").tobytes() in {data for *_, data in vectors}


def test_remove_leaves_nothing_and_numbers_are_not_given_again(path: Path) -> None:
    with Store.open(path) as store:
        store.put(record("kept"), rows(1))
        before = table_counts(store)
        gone = store.put(record("gone"), rows(2))
        store.rename("gone", "soon gone")
        store.remove("gone")
        assert table_counts(store) == before
        assert store.put(record("gone"), rows(2)).model_id > gone.model_id
        assert [change.what for change in store.changes(1)] == ["put", "rename", "remove", "put"]
        assert store.changed_models(1) == [gone.model_id, gone.model_id + 2]


def test_a_former_name_resolves(path: Path) -> None:
    with Store.open(path) as store:
        model = store.put(record("a", content="c"), rows(1)).model_id
        store.rename("a", "b")
        store.rename("a", "c")
        assert {store.get(name).model_id for name in "abc"} == {model}
        assert (store.get("a").name, store.names(), store.count()) == ("c", ["c"], 1)
        assert store.show("b")["former_names"] == ["a", "b"]
        result = store.put(record("a", content="c"))
        assert (result.status, result.name, result.model_id) == ("unchanged", "c", model)
        store.rename("c", "a")
        assert (store.names(), store.show("a")["former_names"]) == (["a"], ["b", "c"])


def test_rename_refuses_a_taken_name(path: Path) -> None:
    with Store.open(path) as store:
        for name in ("a", "b"):
            store.put(record(name), rows(1))
        store.rename("b", "c")
        for taken in ("b", "c"):
            with pytest.raises(RegistryError, match="is taken by 'c'"):
                store.rename("a", taken)
        assert store.names() == ["a", "c"]


def test_unknown_model_suggests_close_names(path: Path) -> None:
    with Store.open(path) as store:
        store.put(record("org/llama-7b"), rows(1))
        for ask in (store.get, store.show, store.remove):
            with pytest.raises(UnknownModel, match="Did you mean 'org/llama-7b'"):
                ask("org/lama-7b")
        with pytest.raises(UnknownModel, match="modelkin list"):
            store.get("zzz")


@pytest.mark.parametrize("step", ["_note_source", "claims.note", "_add_fingerprint", "_log"])
def test_a_put_that_fails_midway_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with Store.open(path) as store:
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


def test_rows_of_another_size_are_refused_with_the_whole_put(path: Path) -> None:
    with Store.open(path) as store:
        store.put(record("a"), rows(1))
        before = table_counts(store)
        for bad in (
            [IndexRows("sum/mlp", "text", (-1,), units(1, 1, 8))],
            [*rows(1), rows(1)[0]],
            [IndexRows("sum/mlp", "text", (-1,), 2 * units(1, 1))],
            [IndexRows("sum/mlp", "text", (-1,), units(1, 1) * float("nan"))],
            [IndexRows("sum/mlp", "text", (-1, 0), units(1, 1))],
            [IndexRows("sum/mlp", "../text", (-1,), units(1, 1))],
        ):
            with pytest.raises(ValueError, match=r"rows|kind"):
                store.put(record("b"), bad)
        assert table_counts(store) == before


def test_words_that_are_no_text_do_not_stop_a_put(path: Path) -> None:
    with Store.open(path) as store:
        store.put(record(origin="/models/\udc80", claims=(Claim("base_model", "\udcff", "config.json"),)))
        assert (store.get("m").origin, store.show("m")["claims"][0]["value"]) == ("/models/\\udc80", "\\udcff")


@pytest.mark.parametrize(
    "change", [{"key": "private-1"}, {"spec": "0"}, {"level": "half"}, {"name": ""}, {"name": "a\nb"}, {"name": "\udc80"}]
)
def test_records_that_do_not_belong_are_refused(path: Path, change: dict[str, str]) -> None:
    with Store.open(path) as store, pytest.raises(RegistryError, match=r"registry.sqlite: .*\. (Index|Give)"):
        store.put(record(**change))


def test_batch_is_one_transaction_and_its_parts_may_fail_alone(path: Path) -> None:
    with Store.open(path) as store, Store.open(path) as other:
        with store.batch():
            store.put(record("a"), rows(1))
            with pytest.raises(ValueError, match="rows"):
                store.put(record("b"), [*rows(1), *rows(1)])
            store.put(record("c"), rows(1))
            assert other.names() == []
        assert other.names() == ["a", "c"]

        def half_a_batch() -> None:
            with store.batch():
                store.put(record("d"))
                raise OSError("stop")

        with pytest.raises(OSError, match="stop"):
            half_a_batch()
        assert other.names() == ["a", "c"]


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    with Store.open(path) as writer:
        writer.put(record("a"), rows(1))
        with writer.batch():
            writer.put(record("b"), rows(1))
            with Store.open(path) as reader:
                reader.connection.execute("PRAGMA busy_timeout = 0")
                assert reader.names() == ["a"]
                assert reader.get("a").blob == record("a").blob


def test_reading_sees_one_moment(path: Path) -> None:
    with Store.open(path) as store, Store.open(path) as writer:
        store.put(record("a"))
        with store.reading():
            assert store.count() == 1
            writer.put(record("b"))
            assert store.count() == 1
        assert store.count() == 2


def test_settings(path: Path) -> None:
    with Store.open(path) as store:
        found = {
            name: store.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "page_size")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "page_size": 8192}


# several processes


def write_models(path: str, writer: int, count: int) -> None:
    with Store.open(Path(path)) as store:
        for number in range(count):
            store.put(record(f"w{writer}-{number}"), rows(writer * 1000 + number))


def read_models(path: str, wanted: int, failures: Any) -> None:
    deadline = time.monotonic() + 60
    with Store.open(Path(path)) as store:
        while (seen := store.count()) < wanted:
            for model in store.stored(store.ids()).values():
                if len(store.vectors.of_model(model.model_id)) != 3:
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
    with Store.open(path) as store:
        assert store.count() == WRITERS * count
        assert sqlite_utils.Database(store.connection).table("meta").count == 1
        assert [change.seq for change in store.changes()] == list(range(1, WRITERS * count + 1))


def add_until_killed(path: str, acknowledge: Any) -> None:
    with Store.open(Path(path)) as store:
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
        with Store.open(path) as store:
            assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert set(acknowledged) <= set(store.names())
            stored = store.stored(store.ids())
            assert len(stored) == store.count() <= len(acknowledged) + 1 + kill
            assert all(len(store.vectors.of_model(number)) == 3 for number in stored)
