"""The first step: tensors that hold the same numbers, by their digests (level full), whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Matrices, Vectors
from modelkin_indexer.results.once import once
from modelkin_registry.counterparts.pairing import DIGEST, FEWEST_NUMBERS, Pair, Rows, grouped, same_places

Keys = npt.NDArray[np.uint64]


@once
def value_keys(table: Matrices) -> Keys:
    """One key a matrix, equal for equal numbers however they are ordered, turned and stored; 0 where it says nothing.

    The two order-free digests added up, which a turn exchanges. (0,) without digests (level probe).
    """
    if not table.numbers.shape[1]:
        return np.zeros(0, np.uint64)
    keys = table.numbers[:, 0] + table.numbers[:, 1]
    return np.asarray(np.where((table.sd > 0) & (table.parameters >= FEWEST_NUMBERS), keys, np.uint64(0)), np.uint64)


@once
def vector_keys(table: Vectors) -> Keys:
    """The same of vectors, whose order counts; 0 for constant ones."""
    keys = np.ascontiguousarray(table.digest).view(np.uint64).reshape(-1)
    return np.asarray(np.where(table.constant, np.uint64(0), keys), np.uint64)


def same_contents(ours: Matrices, theirs: Matrices) -> tuple[Pair, ...]:
    """Pairs of matrices with the same numbers."""
    return _equal(value_keys(ours), value_keys(theirs), ours.places, theirs.places)


def same_vectors(ours: Vectors, theirs: Vectors) -> tuple[Pair, ...]:
    """Pairs of vectors with the same numbers."""
    return _equal(vector_keys(ours), vector_keys(theirs), ours.places, theirs.places)


def _equal(ours: Keys, theirs: Keys, our_places: tuple[Place, ...], their_places: tuple[Place, ...]) -> tuple[Pair, ...]:
    sides: tuple[list[int], list[int]] = ours.tolist(), theirs.tolist()
    common = set(sides[0]) & set(sides[1]) - {0}  # by Python's sets: numpy's bring numpy.ma, which takes as long as a small query
    if not common:
        return ()
    rows = [[row for row, key in enumerate(side) if key in common] for side in sides]
    mine, other = (grouped([side[row] for row in at], at) for side, at in zip(sides, rows, strict=True))
    named = same_places(our_places, their_places)
    return tuple(pair for key in mine for pair in _of_equal_content(mine[key], other[key], named))


def _of_equal_content(ours: Rows, theirs: Rows, named: Sequence[int] | npt.NDArray[np.int64]) -> list[Pair]:
    """Rows that all hold the same numbers: those of one place, then the rest in their order; what is left over repeats the first."""
    left = set(theirs)
    found = {row: int(named[row]) for row in ours if int(named[row]) in left}
    left -= set(found.values())
    free = [row for row in theirs if row in left]
    rest = [row for row in ours if row not in found]
    pairs = [Pair(a, b, DIGEST) for a, b in [*found.items(), *zip(rest, free, strict=False)]]
    return pairs + [Pair(row, theirs[0], DIGEST, repeats=True) for row in rest[len(free) :]]
