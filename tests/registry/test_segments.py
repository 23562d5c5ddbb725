"""An index that grows by segments, and kinds with many rows, of which compressed ones are looked at first."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkin_registry.search import faiss_rows, screened_rows
from modelkin_registry.search import index as vectors
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.index_files import ROWS, read_manifest
from modelkin_registry.search.ranking import Hits
from modelkin_registry.store.rows import IndexRows
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import record, rows, units

SPAWN = multiprocessing.get_context("spawn")
KINDS = ("sum/mlp", "layer/mlp")
TAIL = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", TAIL)


def root(path: Path) -> Path:
    return Path(f"{path}.index")


def segments(path: Path) -> list[int]:
    """How many revisions each has."""
    manifest = read_manifest(root(path))
    return [segment.revisions for segment in manifest.segments] if manifest else []


def add(store: SqliteStore, start: int, count: int) -> None:
    with store.batch():
        for number in range(start, start + count):
            store.put(record(f"m{number}"), rows(number))


def same(first: Hits, second: Hits) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("revisions", "components", "layers", "scores"))


def answers_exactly(index: VectorIndex, k: int = 7, only: Any = None) -> bool:
    queries = np.concatenate([units(3, 1), units(999, 2)])
    return all(same(index.search(kind, queries, k, only), index.search_exact(kind, queries, k, only)) for kind in KINDS)


def test_a_long_tail_is_a_segment_and_small_segments_become_one(path: Path, store: SqliteStore) -> None:
    add(store, 0, 100)
    index = VectorIndex.open(store)
    grown, untouched = [], segments(path)
    for start in range(100, 200, TAIL + 1):
        add(store, start, TAIL + 1)
        index.refresh()
        grown.append(segments(path))
        assert index.generation == store.generation()
        assert answers_exactly(index)
    assert untouched == [100]
    assert grown[:4] == [[100, 9], [100, 18], [100, 27], [100, 27, 9]]
    assert all(len(sizes) <= 4 for sizes in grown)
    assert index.check() == []
    assert len([entry for entry in root(path).iterdir() if entry.is_dir()]) == len(segments(path))
    index.rebuild()
    assert segments(path) == [208]
    assert index.check() == []


def test_one_model_more_builds_nothing(path: Path, store: SqliteStore) -> None:
    add(store, 0, 100)
    index = VectorIndex.open(store)
    before = {file: file.stat().st_mtime_ns for file in root(path).rglob("*")}
    add(store, 100, 1)
    index.refresh()
    index = VectorIndex.open(store)
    assert {file: file.stat().st_mtime_ns for file in root(path).rglob("*")} == before
    assert index.search("sum/mlp", rows(100)[0].rows, 1).revisions[0, 0] == 101


def test_what_changed_or_went_is_passed_over_in_every_segment(path: Path, store: SqliteStore) -> None:
    add(store, 0, 100)
    index = VectorIndex.open(store)
    add(store, 100, TAIL + 1)
    index.refresh()
    for number in (3, 102):
        store.remove(f"m{number}")
        store.put(record(f"m{number + 1}", content="other"), rows(500 + number))
    assert len(segments(path)) == 2
    assert answers_exactly(index)
    assert index.check() == []
    assert {4, 103}.isdisjoint(
        index.search("sum/mlp", np.concatenate([rows(3)[0].rows, rows(102)[0].rows]), 300).revisions.ravel().tolist()
    )


def test_opening_makes_no_large_segment(path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "AT_ONCE", 20)
    add(store, 0, 100)
    VectorIndex.open(store)
    for start in range(100, 145, TAIL + 1):
        add(store, start, TAIL + 1)
        index = VectorIndex.open(store)
        assert answers_exactly(index)
    assert segments(path) == [100, 18, 18, 9]
    add(store, 145, TAIL + 1)
    index.refresh()
    assert segments(path) == [154]


def test_a_reader_keeps_what_it_mapped_of_segments_that_stay(path: Path, store: SqliteStore) -> None:
    add(store, 0, 100)
    reader = VectorIndex.open(store)
    assert answers_exactly(reader)
    mapped = dict(reader._kinds)
    with SqliteStore.open(path) as other:
        add(other, 100, TAIL + 1)
        VectorIndex.open(other)
    reader.refresh()
    assert answers_exactly(reader)
    assert len(reader._kinds) == 2 * len(mapped)
    assert all(reader._kinds[at] is indexed for at, indexed in mapped.items())


def die_while_merging(path: str) -> None:
    vectors.TAIL_REVISIONS = TAIL
    written = faiss_rows.sync_file

    def last_words(file: Path) -> None:
        written(file)
        if file.name.startswith("1."):
            os.kill(os.getpid(), 9)

    faiss_rows.sync_file = last_words
    with SqliteStore.open(Path(path)) as store:
        VectorIndex.open(store)


def test_killed_while_segments_become_one(path: Path, store: SqliteStore) -> None:
    add(store, 0, 100)
    reader = VectorIndex.open(store)
    add(store, 100, TAIL + 1)
    reader.refresh()
    before = segments(path)
    add(store, 109, TAIL + 1)
    process = SPAWN.Process(target=die_while_merging, args=(str(path),))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert segments(path) == before == [100, 9]
    assert len([entry for entry in root(path).iterdir() if entry.is_dir()]) == 3
    assert answers_exactly(reader)
    reader.refresh()
    assert segments(path) == [100, 18]
    assert answers_exactly(reader)
    assert len([entry for entry in root(path).iterdir() if entry.is_dir()]) == 2


# compressed rows first

DIMS, MANY = 128, 6000


@pytest.fixture
def screened(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VectorIndex]:
    """An index with MANY float16 rows of one kind, and some in a segment of few."""
    monkeypatch.setattr(faiss_rows, "SCREENED_ROWS", 1000)
    monkeypatch.setattr(screened_rows, "KEPT", 600)
    values = units(1, MANY, DIMS)
    values[:, 96:] = 0  # slots that no model fills
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    with SqliteStore.open(path) as store:
        with store.batch():
            for number in range(0, MANY, 10):
                parts = [IndexRows("sum/mlp", f"c{at}", (-1,), values[number + at][None]) for at in range(10)]
                store.put(record(f"m{number}"), parts)
        index = VectorIndex.open(store)
        for number in range(TAIL + 1):
            store.put(record(f"late{number}"), [IndexRows("sum/mlp", "c0", (-1,), units(50 + number, 1, DIMS))])
        index.refresh()
        yield index


def test_of_many_rows_the_nearest_are_found_with_the_same_scores(path: Path, screened: VectorIndex) -> None:
    assert len(list(root(path).glob(f"*/*.{ROWS}"))) == 1
    queries = units(7, 20, DIMS)
    found, exact = screened.search("sum/mlp", queries, 10), screened.search_exact("sum/mlp", queries, 10)
    shared = 0
    for at in range(len(queries)):
        scores = {place[:3]: place[3] for place in told(exact, at)}
        mine = {place[:3]: place[3] for place in told(found, at)}
        shared += len(scores.keys() & mine.keys())
        assert all(scores[place] == mine[place] for place in scores.keys() & mine.keys())
    assert shared >= 0.99 * 10 * len(queries)
    assert screened.check() == []


def told(hits: Hits, at: int) -> list[tuple[int, str, int, float]]:
    columns = (hits.revisions[at], hits.components[at], hits.layers[at], hits.scores[at])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_relative_at_a_cosine_of_three_tenths_is_found_among_many(screened: VectorIndex) -> None:
    """Where chance leaves it the nearest of all, as it is in the real numbers of a row, it is so here."""
    known = units(1, MANY, DIMS)[:, :96]
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    queries = np.zeros((50, DIMS), np.float32)
    queries[:, :96] = 0.3 * known[:5000:100] + np.sqrt(1 - 0.3**2) * units(8, 50, 96)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    found, exact = screened.search("sum/mlp", queries, 50), screened.search_exact("sum/mlp", queries, 50)
    wanted = np.arange(0, 5000, 100) // 10 + 1
    near = [set(hits.revisions[at].tolist()) for hits in (exact,) for at in range(50)]
    hit = [set(found.revisions[at].tolist()) for at in range(50)]
    possible = [number for number, revisions in enumerate(near) if wanted[number] in revisions]
    assert len(possible) >= 15
    assert all(wanted[number] in hit[number] for number in possible)


def test_changed_revisions_are_passed_over_among_many(screened: VectorIndex) -> None:
    store = screened.store
    query = units(1, MANY, DIMS)[:1].copy()
    query[:, 96:] = 0
    query /= np.linalg.norm(query)
    assert screened.search("sum/mlp", query, 1).revisions[0, 0] == 1
    store.remove("m0")
    assert screened.search("sum/mlp", query, 1).revisions[0, 0] == screened.search_exact("sum/mlp", query, 1).revisions[0, 0] != 1


def test_removed_models_that_are_nearer_crowd_nothing_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is kept at first was removed since: what is left of the family is found behind it."""
    monkeypatch.setattr(faiss_rows, "SCREENED_ROWS", 1000)
    monkeypatch.setattr(screened_rows, "KEPT", 50)
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 600)
    parent, others, near = units(1, 1, DIMS), units(2, 1500, DIMS), 300
    family = parent + 0.05 * units(3, near, DIMS)
    family /= np.linalg.norm(family, axis=1, keepdims=True)
    left = parent + units(4, 1, DIMS)
    left /= np.linalg.norm(left)
    with SqliteStore.open(path) as store:
        with store.batch():
            for number, values in enumerate([*family, *others, *left]):
                store.put(record(f"m{number}"), [IndexRows("sum/mlp", "text", (-1,), values[None])])
        index = VectorIndex.open(store)
        assert index.search("sum/mlp", parent, 1).revisions[0, 0] <= near
        with store.batch():
            for number in range(near):
                store.remove(f"m{number}")
        assert index.search("sum/mlp", parent, 1).revisions[0, 0] == near + len(others) + 1


def test_as_many_as_are_asked_for_are_kept(screened: VectorIndex) -> None:
    queries = units(7, 3, DIMS)
    found, exact = screened.search("sum/mlp", queries, 1000), screened.search_exact("sum/mlp", queries, 1000)
    assert (found.revisions > 0).all()
    assert all(len({*told(found, at)} & {*told(exact, at)}) >= 990 for at in range(3))


@pytest.mark.parametrize("count", [0, 1, 40, 300])
def test_of_chosen_revisions_all_are_looked_at(screened: VectorIndex, count: int) -> None:
    only = np.random.default_rng(count).permutation(MANY // 10 + TAIL + 2)[:count].astype(np.int64)
    queries = units(9, 5, DIMS)
    found = screened.search("sum/mlp", queries, 12, only)
    assert same(found, screened.search_exact("sum/mlp", queries, 12, only))
    assert set(found.revisions.ravel().tolist()) - {-1} <= set(only.tolist())


@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_chosen_revisions_of_every_kind_and_segment(path: Path, store: SqliteStore, count: int) -> None:
    add(store, 0, 100)
    index = VectorIndex.open(store)
    add(store, 100, TAIL + 1)
    index.refresh()
    add(store, 109, 3)
    store.remove("m5")
    assert len(segments(path)) == 2
    assert answers_exactly(index, only=np.random.default_rng(count).permutation(112)[:count].astype(np.int64))
