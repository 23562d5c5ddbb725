"""Vectors put together and cut apart: biases of q, k and v in one. Their digests do not add up, but their sums and sums of squares do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.fingerprint import Vectors
from modelkin_registry.counterparts.contents import same_vectors

Floats = npt.NDArray[np.float64]
TOLERANCE = 2e-6  # of a sum, in the size of what is added up: mean and sd are single precision, some thirty times finer
MOST_PARTS = 4  # vectors that one may be put together from: q, k, v and one more
FEW = 2  # numbers of vectors that files may lack: graphs hold so few as constants, which readers of before took for none of the weights
MOST_TRIED = 24  # vectors of one model that are tried together: more are too many ways, and say too little


class VectorUnions(Struct, frozen=True):
    """What vectors without an equal were put together of: (rows of ours, rows of theirs), and the rows of each side that are left."""

    found: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    left: tuple[int, ...]
    free: tuple[int, ...]


def vectors_besides(ours: Vectors, theirs: Vectors, moved: Collection[int]) -> list[int] | None:
    """Rows of theirs that stand for none of ours; None unless every vector of ours is among theirs, whole, put together with others or in
    parts, or in another order along a side of matrices whose lines stand in another order as well (`moved`, lengths of such sides).

    Of FEW numbers one may be missing, but not another in its place.
    """
    unions = vector_unions(ours, theirs)
    alone = [int(ours.length[rows[0]]) for rows, others in unions.found if len(rows) == len(others) == 1]
    if any(all(side % length for side in moved) for length in alone):
        return None
    free = list(unions.free)
    return free if all(ours.length[row] <= FEW and ours.length[row] not in theirs.length[free] for row in unions.left) else None


def vector_unions(ours: Vectors, theirs: Vectors) -> VectorUnions:
    """Vectors put together, cut apart or in another order, of those that have no equal. By sums alone: chance makes such pairs too, so
    they mean something only where everything else is known to be the same.
    """
    pairs = [pair for pair in same_vectors(ours, theirs) if not pair.repeats]
    left = [row for row in _varied(ours) if row not in {pair.ours for pair in pairs}]
    free = [row for row in _varied(theirs) if row not in {pair.theirs for pair in pairs}]
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    if not left or len(left) > MOST_TRIED * MOST_PARTS:
        return VectorUnions((), tuple(left), tuple(free))
    for row in list(left):
        turned = next((other for other in free if _reordered(ours, row, theirs, other)), None)
        if turned is not None:
            left.remove(row)
            free.remove(turned)
            found.append(((row,), (turned,)))
    for turn, (wholes, parts, rows, others) in enumerate(((ours, theirs, left, free), (theirs, ours, free, left))):
        for row in list(rows):
            chosen = _parts_of(wholes, row, parts, others)
            if chosen:
                rows.remove(row)
                for part in chosen:
                    others.remove(part)
                found.append(((row,), chosen) if not turn else (chosen, (row,)))
    return VectorUnions(tuple(found), tuple(left), tuple(free))


def _varied(table: Vectors) -> list[int]:
    return np.flatnonzero(np.logical_not(table.constant) & (table.length > 1)).tolist()


def _reordered(table: Vectors, row: int, other: Vectors, at: int) -> bool:
    """Whether both may hold the same numbers in another order."""
    ours, theirs = _sums(table, [row])[0], _sums(other, [at])[0]
    same = ours[0] == theirs[0] and bool((np.abs(ours - theirs) <= _tolerance(ours)).all())
    return same and bool((table.quantiles[row] == other.quantiles[at]).all())


def _parts_of(table: Vectors, row: int, other: Vectors, rows: Sequence[int]) -> tuple[int, ...]:
    """Two to MOST_PARTS rows of the other table that may be this one's parts, those next to each other first."""
    target, sizes = _sums(table, [row])[0], _sums(other, rows)
    near = [at for at in range(len(rows)) if other.length[rows[at]] < table.length[row]]
    for count in range(2, MOST_PARTS + 1):
        for start in range(0, len(near), MOST_TRIED // 2):
            some = np.array(near[start : start + MOST_TRIED], np.int64)
            ways = _ways(len(some), count)
            apart = np.abs(sizes[some[ways]].sum(axis=1) - target)
            fitting = np.flatnonzero((apart <= _tolerance(target)).all(axis=1))
            if len(fitting):
                return tuple(rows[at] for at in some[ways[fitting[0]]].tolist())
    return ()


def _tolerance(sums: Floats) -> Floats:
    return TOLERANCE * np.array([0.0, np.sqrt(sums[0] * sums[2]), sums[2]])


@lru_cache(maxsize=128)
def _ways(among: int, count: int) -> npt.NDArray[np.int64]:
    return np.array(list(combinations(range(among), count)), np.int64).reshape(-1, count)


def _sums(table: Vectors, rows: Sequence[int]) -> Floats:
    """(n, 3): number, sum and sum of squares of each vector."""
    at = list(rows)
    length, mean, sd = (getattr(table, name)[at].astype(float) for name in ("length", "mean", "sd"))
    return np.stack([length, length * mean, length * (mean**2 + sd**2)], axis=1)
