"""What pairs of tensors are, and how sure each is."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint

DIGEST, SKETCH, SHAPE, NAME = "digest", "sketch", "shape", "name"  # how a pair was found, the surest first
FEWEST_NUMBERS = 64  # a tensor of fewer numbers may be equal by chance or by default: it follows others, and leads none
Rows = list[int]


class Pair(NamedTuple):
    """A row of the query's table and one of the relative's. `repeats`: the relative's row stands in another pair too."""

    ours: int
    theirs: int
    found: str
    repeats: bool = False


class Pairs(Struct, frozen=True):
    """What was found of matrices and of vectors; tensors that nothing but their names or shapes would pair are not among it."""

    matrices: tuple[Pair, ...] = ()
    vectors: tuple[Pair, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.matrices or self.vectors)


def grouped(keys: Iterable[Hashable], rows: Iterable[int]) -> dict[Hashable, Rows]:
    """Rows by key, in their order."""
    found: dict[Hashable, Rows] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, []).append(row)
    return found


def shapes(model: Fingerprint, rows: Iterable[int]) -> dict[Hashable, Rows]:
    """Rows of the matrix table by (rows, columns, experts)."""
    table, chosen = model.matrices, list(rows)
    keys = zip(table.rows[chosen].tolist(), table.columns[chosen].tolist(), table.experts[chosen].tolist(), strict=True)
    return grouped(keys, chosen)


def same_places(ours: tuple[Place, ...], theirs: tuple[Place, ...]) -> npt.NDArray[np.int64]:
    """Of each of our places the row of the very same place of theirs, -1 without one."""
    if ours == theirs:
        return np.arange(len(ours))
    known = {place: row for row, place in enumerate(theirs)}
    return np.array([known.get(place, -1) for place in ours], np.int64)
