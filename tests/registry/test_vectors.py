"""The vector index: always the answer of an exact search over the registry as it is now."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkin_indexer.errors import RegistryError
from modelkin_registry.search import index as vectors
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.index_files import locked
from modelkin_registry.search.ranking import SCORE_MARGIN, Hits
from modelkin_registry.store.rows import CODE_BITS, MAX_DIMS, IndexRows, encode, numbers, sign_codes
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import DIMS, record, rows, units

SPAWN = multiprocessing.get_context("spawn")
KINDS = ("sum/mlp", "layer/mlp")
MODELS = 12


GOLDEN_CODE = "ccda8dbe2a32b7602857b8c2acf3effe63813cf401e181a5a4abe365b81df02f"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(path) as opened:
        for number in range(MODELS):
            opened.put(record(f"m{number}"), rows(number))
        yield opened


def root(path: Path) -> Path:
    return Path(f"{path}.index")


def same(first: Hits, second: Hits) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("revisions", "components", "layers", "scores"))


def answers_exactly(index: VectorIndex, k: int = 7) -> bool:
    queries = np.concatenate([units(3, 1), units(999, 2)])
    return all(same(index.search(kind, queries, k), index.search_exact(kind, queries, k)) for kind in KINDS)


# scores and order, against plain arithmetic


def by_hand(stored: dict[int, list[IndexRows]], kind: str, query: Any, k: int) -> list[tuple[int, str, int]]:
    """The k nearest rows by a loop over all of them, in float64."""
    scored = []
    for model, every in stored.items():
        for part in every:
            if part.kind == kind:
                for layer, row in zip(part.layers, part.rows, strict=True):
                    if kind.startswith("layer/"):
                        differing = np.unpackbits(sign_codes(row[None]) ^ sign_codes(query[None])).sum()
                        score = np.cos(np.pi * differing / CODE_BITS)
                    else:
                        score = row.astype(np.float16).astype(np.float64) @ query.astype(np.float64)
                    scored.append((-np.float32(score), model, part.component, layer))
    return [place for _, *place in sorted(scored)][:k]


@pytest.mark.parametrize("built", [True, False])
def test_the_order_is_that_of_plain_arithmetic(store: SqliteStore, built: bool) -> None:
    index = VectorIndex.open(store)
    if built:
        index.rebuild()
    given_rows = {number + 1: rows(number) for number in range(MODELS)}
    for kind in KINDS:
        hits = index.search(kind, units(5, 3), 9)
        for place, query in enumerate(units(5, 3)):
            found = [list(hit) for hit in zip(hits.revisions[place], hits.components[place], hits.layers[place], strict=True)]
            assert found == by_hand(given_rows, kind, query, 9)


@pytest.mark.parametrize("dims", [DIMS, 512, MAX_DIMS])
def test_rough_scores_are_well_inside_the_margin(dims: int) -> None:
    """What the cut before exact scoring relies on, for FAISS and for numpy."""
    stored = numbers(encode(IndexRows("sum/a", "text", tuple(range(50)), units(1, 50, dims))).data)
    query = units(1, 1, dims)
    index = faiss.IndexScalarQuantizer(dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(stored)
    scores, positions = index.search(query, 50)
    exact = stored.astype(np.float64) @ query[0].astype(np.float64)
    assert np.abs(scores[0] - exact[positions[0]]).max() < SCORE_MARGIN / 4
    assert np.abs((stored @ query.T)[:, 0] - exact).max() < SCORE_MARGIN / 4


def test_a_copy_scores_one_and_comes_first(store: SqliteStore) -> None:
    index = VectorIndex.open(store)
    index.rebuild()
    for kind, part in (("sum/mlp", rows(4)[0]), ("layer/mlp", rows(4)[2])):
        hits = index.search(kind, part.rows, 2)
        assert set(hits.revisions[:, 0]) == {5}
        assert list(hits.layers[:, 0]) == list(part.layers)
        assert np.allclose(hits.scores[:, 0], 1, atol=1e-3)
        assert np.all(hits.scores[:, 1] < 0.95)


def test_sign_codes_estimate_the_cosine() -> None:
    """Over many pairs at known angles the estimate is right on average, with the spread of 256 coin flips."""
    generator = np.random.default_rng(0)
    one, other = units(1, 400, 128), units(2, 400, 128)
    other -= np.sum(one * other, axis=1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    cosine = generator.uniform(-1, 1, (400, 1))
    mixed = cosine * one + np.sqrt(1 - cosine**2) * other
    differing = np.unpackbits(sign_codes(one) ^ sign_codes(mixed), axis=1).sum(axis=1)
    error = np.cos(np.pi * differing / CODE_BITS) - cosine[:, 0]
    assert abs(error.mean()) < 0.02
    assert error.std() < 0.11


def test_the_projection_is_the_same_for_ever() -> None:
    """Stored codes outlive versions: this code was written by the first."""
    assert sign_codes(np.eye(3, 8, dtype=np.float32))[1].tobytes().hex() == GOLDEN_CODE


def test_encode_keeps_values_and_drops_zero_rows() -> None:
    values = units(1, 4)
    values[2] = 0
    dense = encode(IndexRows("sum/a", "text", (0, 1, 2, 3), values))
    assert list(dense.layers) == [0, 1, 3]
    assert np.array_equal(numbers(dense.data), values[[0, 1, 3]].astype(np.float16).astype(np.float32))
    assert encode(IndexRows("layer/a", "text", (0, 1, 2, 3), values)).data.shape == (3, CODE_BITS // 8)


def test_short_answers_are_padded(store: SqliteStore) -> None:
    index = VectorIndex.open(store)
    hits = index.search("sum/mlp", units(1, 2), 100)
    assert hits.revisions.shape == (2, 100)
    assert np.all(hits.revisions[:, 2 * MODELS :] == -1)
    assert np.all(np.isneginf(hits.scores[:, 2 * MODELS :]))
    assert np.all(hits.revisions[:, : 2 * MODELS] > 0)
    nothing = index.search("sum/unheard of", units(1, 2), 3)
    assert np.all(nothing.revisions == -1)
    zeros = index.search("layer/mlp", np.zeros((1, DIMS), np.float32), 3)
    assert np.all(zeros.revisions == -1)


@pytest.mark.parametrize("queries", [units(1, 1, DIMS + 1), units(1, 1)[0], 2 * units(1, 1), units(1, 1) * np.nan])
def test_queries_that_make_no_sense_are_refused(store: SqliteStore, queries: Any) -> None:
    index = VectorIndex.open(store)
    for ask in (index.search, index.search_exact):
        with pytest.raises(ValueError, match="queries of kind 'sum/mlp'"):
            ask("sum/mlp", queries, 3)


@pytest.mark.parametrize("indexed", [0, 20, 40])
def test_ties_end_by_model_wherever_the_rows_are(path: Path, indexed: int) -> None:
    """40 models with the same rows: the cut falls inside the tie, and the lowest numbers win, from index and table alike."""
    with SqliteStore.open(path) as store:
        for number in range(indexed):
            store.put(record(f"m{number}"), rows(1))
        index = VectorIndex.open(store)
        index.rebuild()
        for number in range(indexed, 40):
            store.put(record(f"m{number}"), rows(1))
        for kind, query in (("sum/mlp", rows(1)[0].rows), ("layer/mlp", rows(1)[2].rows[:1])):
            assert list(index.search(kind, query, 5).revisions[0]) == [1, 2, 3, 4, 5]


# keeping up


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "change", "remove", "rename", "rebuild", "reopen"]), st.integers(0, 11), st.integers(0, 5)),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(ACTIONS, st.integers(1, 8))
def test_search_is_exact_after_any_history(actions: list[tuple[str, int, int]], k: int) -> None:
    """Few different rows on purpose: copies and ties are common."""
    folder = Path(tempfile.mkdtemp())
    try:
        with SqliteStore.open(folder / "r") as store:
            index, held = VectorIndex.open(store), set[str]()
            for action, number, seed in actions:
                index = act(store, index, held, action, number, seed)
                queries = np.concatenate([rows(seed)[0].rows, rows(seed)[2].rows])
                for kind in KINDS:
                    assert same(index.search(kind, queries, k), index.search_exact(kind, queries, k))
                    found = index.search_exact(kind, queries, 100)
                    models = store.models_of(set(found.revisions[0].tolist()) - {-1}).values()
                    assert {store.name_of(model) for model in models} == held
            index.rebuild()
            assert index.check() == []
    finally:
        shutil.rmtree(folder)


def act(store: SqliteStore, index: VectorIndex, held: set[str], action: str, number: int, seed: int) -> VectorIndex:
    """One step; `held` is kept to the names that the registry must have after it."""
    if action in ("add", "change"):
        held.add(store.put(record(f"m{number}", content=f"{action} {seed}"), rows(seed)).name)
    elif action in ("remove", "rename") and held:
        name = sorted(held)[number % len(held)]
        held.remove(name)
        if action == "remove":
            store.remove(name)
        else:
            store.rename(name, f"renamed at {store.generation()}")
            held.add(f"renamed at {store.generation() - 1}")
    elif action == "rebuild":
        index.rebuild()
    elif action == "reopen":
        index = VectorIndex.open(store)
    return index


def test_a_small_tail_stays_in_the_table_and_a_long_one_is_indexed(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", MODELS)
    index = VectorIndex.open(store)
    assert index.generation == 0
    store.put(record("one more"), rows(50))
    index.refresh()
    assert index.generation == store.generation() == MODELS + 1
    for number in range(MODELS):
        store.put(record(f"later {number}"), rows(60 + number))
    index.refresh()
    assert index.generation == MODELS + 1
    assert answers_exactly(index)
    store.remove("m3")
    index.refresh()
    assert index.generation == store.generation()
    assert answers_exactly(index)


def test_another_process_index_is_taken_over_and_a_mapped_one_stays_right(path: Path, store: SqliteStore) -> None:
    mine = VectorIndex.open(store)
    mine.rebuild()
    assert answers_exactly(mine)
    with SqliteStore.open(path) as other_store:
        other_store.put(record("new"), rows(77))
        VectorIndex.open(other_store).rebuild()
    assert mine.generation == MODELS
    assert answers_exactly(mine)
    lazy = VectorIndex(store)
    lazy.refresh()
    assert lazy.generation == MODELS + 1
    with SqliteStore.open(path) as other_store:
        VectorIndex.open(other_store).rebuild()
    assert answers_exactly(lazy)  # its files were swept before it opened them
    mine.refresh()
    assert mine.generation == MODELS + 1
    assert len([entry for entry in root(path).iterdir() if entry.is_dir()]) == 1


def test_who_cannot_build_still_searches(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 0)
    monkeypatch.setattr(vectors, "BUILD_WAIT_SECONDS", 0.0)
    with locked(root(path), 0) as held:
        assert held
        index = VectorIndex.open(store)
        assert index.generation == 0
        assert answers_exactly(index)
        with pytest.raises(RegistryError, match="another process has been building"):
            index.rebuild()
    shutil.rmtree(root(path))
    root(path).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        index = VectorIndex.open(store)
    assert "searches go on without" in caplog.text
    assert answers_exactly(index)
    with pytest.raises(RegistryError, match="cannot be written"):
        index.rebuild()


def test_nothing_unfinished_is_indexed(store: SqliteStore) -> None:
    index = VectorIndex.open(store)
    with store.batch():
        store.put(record("unfinished"), rows(99))
        with pytest.raises(RegistryError, match="unfinished change"):
            index.rebuild()
        assert index.search("sum/mlp", rows(99)[0].rows, 1).revisions[0, 0] == MODELS + 1


# several processes


def build_and_search(path: str, seed: int, failures: Any) -> None:
    with SqliteStore.open(Path(path)) as store:
        index = VectorIndex.open(store)
        for number in range(5):
            name = f"p{seed}-{number}"
            mine = store.put(record(name), rows(seed * 100 + number)).revision
            index.rebuild() if number % 2 else index.refresh()
            if index.search("sum/mlp", rows(seed * 100 + number)[0].rows, 1).revisions[0, 0] != mine:
                failures.put(name)


def test_several_processes_build_and_search_at_once(path: Path, store: SqliteStore) -> None:
    failures = SPAWN.Queue()
    processes = [SPAWN.Process(target=build_and_search, args=(str(path), seed, failures)) for seed in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert failures.empty()
    index = VectorIndex.open(store)
    assert index.check() == []
    assert answers_exactly(index)
