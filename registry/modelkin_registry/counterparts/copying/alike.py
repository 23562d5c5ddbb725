"""What is one piece of evidence though it stands in many places: tensors that hold the same numbers, or nearly the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from modelkin_indexer.results.fingerprint import Matrices, Vectors

TINY = float(np.finfo(np.float64).tiny)
ALIKE_SD = 4.8  # of a cosine's noise, from which matrices are alike: what a layer has to stand out by in a layer map


def told_once(table: Matrices | Vectors, rows: Iterable[int]) -> list[int]:
    """These rows in their order, without those whose numbers another one holds: a table in every layer is one piece of evidence."""
    found: dict[bytes, int] = {}
    for row in sorted(set(rows)):
        found.setdefault(contents_of(table, row), row)
    return list(found.values())


def contents_of(table: Matrices | Vectors, row: int) -> bytes:
    """What tensors that hold the same numbers have in common: the digest, or at level probe the sketch and its length."""
    if not isinstance(table, Matrices):
        return _contents(table, row)
    known: dict[int, bytes] = table.worked_out.setdefault(contents_of, {})
    return known[row] if row in known else known.setdefault(row, _contents(table, row))


def _contents(table: Matrices | Vectors, row: int) -> bytes:
    columns = [table.digest, *((table.numbers, table.probe) if isinstance(table, Matrices) else ())]
    for column in columns:
        if column.shape[1] and column[row].any():
            return bytes(column[row].tobytes() + table.scale[row].tobytes())
    return b"%d" % row  # nothing tells that it is another's


class Agreeing(NamedTuple):
    """A row of ours and one of theirs, their correlation, and its noise (sd)."""

    ours: int
    theirs: int
    r: float
    noise: float


def told_apart(ours: Matrices, theirs: Matrices, found: Sequence[Agreeing]) -> list[int]:
    """Positions in `found` of the pairs of matrices that say something of their own.

    Every layer may have started from one table that a formula gives (shifts, Hilbert and Legendre matrices), which other models start from
    as well. A matrix then agrees with its counterpart's neighbours as much as with its counterpart: of S + a, S + b in one model and S + c,
    S + d in the other the correlations crosswise have the product of those that are not. What agrees so with a pair before it says no more.
    """
    known: dict[tuple[int, int, int], list[Agreeing]] = {}
    kept = []
    for position, one in enumerate(found):
        before = known.setdefault((int(ours.rows[one.ours]), int(ours.columns[one.ours]), int(ours.experts[one.ours])), [])
        if not any(_crosswise(ours, theirs, one, other) for other in before):
            before.append(one)
            kept.append(position)
    return kept


def _crosswise(ours: Matrices, theirs: Matrices, one: Agreeing, other: Agreeing) -> bool:
    across = math.sqrt(abs(_cosine(ours, theirs, one.ours, other.theirs) * _cosine(ours, theirs, other.ours, one.theirs)))
    r = math.sqrt(abs(one.r * other.r))
    return across >= max(ALIKE_SD * one.noise, r - ALIKE_SD * (1 - min(r, 1.0) ** 2) * one.noise)


def _cosine(ours: Matrices, theirs: Matrices, a: int, b: int) -> float:
    x, y = ours.probe[a].astype(float), theirs.probe[b].astype(float)
    return float(x @ y) / max(float(np.linalg.norm(x) * np.linalg.norm(y)), TINY) if len(x) == len(y) else 0.0
