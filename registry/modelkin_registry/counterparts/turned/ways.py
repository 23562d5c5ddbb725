"""The ways to read a model whose names tell nothing, and its anchored sketches in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.results.fingerprint import SIDES, Matrices
from modelkin_registry.counterparts.pairing import Pair

Floats = npt.NDArray[np.float64]
IN, OUT = SIDES.index("in"), SIDES.index("out")


class Way(NamedTuple):
    """One way to read a model: which of its tables holds the tokens, and whether its matrices are stored [in, out]."""

    table: int
    turned: bool


def anchored_as_read(ours: Matrices, theirs: Matrices, pairs: Sequence[Pair]) -> npt.NDArray[np.float16]:
    """Our anchored sketches (n, 136) in the way that agrees best with all counterparts together; zeros without counterpart or reading.

    One of four ways at most is chosen for all pairs, so what a single one shows is not chosen by its looks.
    """
    found = np.zeros((len(ours), spec.GRAM_NUMBERS), np.float16)
    both = [(pair.ours, pair.theirs) for pair in pairs if theirs.anchored.shape[1] and theirs.anchored[pair.theirs].any()]
    if not both or not ours.readings.shape[1]:
        return found
    a, b = (list(rows) for rows in zip(*both, strict=True))
    told = theirs.anchored[b].astype(np.float64)
    ways = [faced_as(ours, way, a, theirs.side[b].tolist()) for way in all_ways(ours)]
    found[a] = max(ways, key=lambda vectors: float(np.vecdot(vectors, told).sum()))
    return found


def table_count(table: Matrices) -> int:
    """How many tables may hold the tokens."""
    return int(table.readings.shape[1]) // (2 * spec.GRAM_NUMBERS)


def faced_as(table: Matrices, way: Way, rows: Sequence[int], sides: Sequence[int]) -> Floats:
    """Unit vectors (rows, 136): of a square matrix the reading of the side that its counterpart tells, of others the only one."""
    vectors = table.readings.reshape(len(table), -1, 2, spec.GRAM_NUMBERS)[list(rows), way.table].astype(np.float64)
    wanted = (np.asarray(sides) == OUT) != way.turned
    there = (vectors != 0).any(axis=2)
    axis = np.where(there[:, 0] & there[:, 1], wanted, there[:, 1]).astype(np.int64)
    chosen = vectors[np.arange(len(vectors)), axis]
    lengths = np.linalg.norm(chosen, axis=1, keepdims=True)
    return np.asarray(np.divide(chosen, lengths, out=np.zeros_like(chosen), where=lengths > 0))


def all_ways(table: Matrices) -> list[Way]:
    """Every way to read a model, none where its names tell one."""
    return [Way(number, turned) for number in range(table_count(table)) for turned in (False, True)]
