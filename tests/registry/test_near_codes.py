"""Sign codes looked at by the compiled core, and by FAISS where there is none: the same nearest, ties and removed models included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelkin_registry.search import index as vectors
from modelkin_registry.search import near_codes
from modelkin_registry.search.faiss_rows import SPARE
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.ranking import Hits
from modelkin_registry.store.rows import hamming
from modelkin_registry.store.sqlite.store import SqliteStore
from registry_helpers import record, rows, units

needs_core = pytest.mark.skipif(near_codes.CORE is None, reason="no C compiler was at hand when modelkin was installed")
KIND = "layer/mlp"


def found(codes: Any, wanted: Any, k: int, chosen: Any = None, threads: int = 1) -> list[set[tuple[int, int]]]:
    """Of each query the positions and distances."""
    query, position, distance = near_codes.nearest_codes(codes, wanted, k, chosen, threads)
    assert np.all(np.diff(query) >= 0)
    return [set(zip(position[query == q].tolist(), distance[query == q].tolist(), strict=True)) for q in range(len(wanted))]


def expected(codes: Any, wanted: Any, k: int, chosen: Any = None) -> list[set[tuple[int, int]]]:
    at = np.arange(len(codes)) if chosen is None else np.flatnonzero(chosen)
    told = []
    for row in hamming(wanted, codes[at]):
        limit = np.sort(row)[min(k, len(row)) - 1] if len(row) else 0
        told.append({(int(position), int(distance)) for position, distance in zip(at, row, strict=True) if distance <= limit})
    return told


@needs_core
@pytest.mark.parametrize("count", [0, 1, 5, 255, 256, 257, 5000])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_the_core_finds_all_that_are_as_near_as_the_kth(count: int, k: int) -> None:
    random = np.random.default_rng([count, k])
    codes = random.integers(0, 256, (count, 32), np.uint8)
    codes[count // 2 :: 3] = codes[: len(codes[count // 2 :: 3])]  # equal ones, which tie
    wanted = np.concatenate([random.integers(0, 256, (3, 32), np.uint8), codes[:2], ~codes[:1]])
    assert found(codes, wanted, k) == expected(codes, wanted, k)
    chosen = random.random(count) < 0.3
    assert found(codes, wanted, k, chosen) == expected(codes, wanted, k, chosen)
    for of, all_of in zip(found(codes, wanted, k, None, 3), expected(codes, wanted, k), strict=True):
        assert of >= all_of  # of several threads each tells its own


@needs_core
def test_buffers_that_hold_no_whole_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="whole codes"):
        near_codes.CORE.nearest(b"12345", bytes(32), 1, None)
    with pytest.raises(ValueError, match="whole codes"):
        near_codes.CORE.nearest(bytes(64), bytes(32), 1, b"1")
    with pytest.raises(ValueError, match="whole codes"):
        near_codes.CORE.nearest(bytes(64), bytes(32), 0, None)


@needs_core
def test_with_and_without_the_core_answers_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "TAIL_REVISIONS", 8)
    with SqliteStore.open(tmp_path / "r.sqlite") as store:
        with store.batch():
            for number in range(120):
                store.put(record(f"m{number}"), rows(number % 60))  # each twice
        VectorIndex.open(store)
        for number in range(4 * SPARE):  # near, indexed, and there no longer
            store.remove(f"m{number}")
        answers = []
        for core in (near_codes.CORE, None):
            monkeypatch.setattr(near_codes, "CORE", core)
            monkeypatch.setattr(vectors, "TAIL_REVISIONS", 1000)  # so that the segment stays
            index = VectorIndex.open(store)
            queries = np.concatenate([units(20_003, 3), units(20_100, 2), np.zeros((1, 24), np.float32)])
            answers.append([index.search(KIND, queries, k, only) for k in (1, 9, 500) for only in (None, np.arange(70, 90))])
            assert answers[-1][0].revisions[-1, 0] == -1  # of a query of zeros
    for one, other in zip(*answers, strict=True):
        assert same(one, other)


def same(one: Hits, other: Hits) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("revisions", "components", "layers", "scores"))
