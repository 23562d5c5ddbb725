"""Parts of a base's weight that were taken away from it before an adapter was trained: singular values, columns of Q.

They are worked out once for a weight, from its Gram matrix along the shorter side in double precision, when its rows are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.adapters.formulas.change import Shape
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Rows

Doubles = npt.NDArray[np.float64]
Taken = Callable[[], tuple[Doubles, Doubles]]  # two factors [rows, rank] and [rank, columns]


def without_largest(rows: Rows, shape: Shape, rank: int) -> Rows:
    """The weight without its `rank` largest singular values."""
    return _less(rows, lambda whole: _singular(whole, rank, largest=True), shape)


def without_smallest(rows: Rows, shape: Shape, rank: int) -> Rows:
    """The weight without its `rank` smallest singular values."""
    return _less(rows, lambda whole: _singular(whole, rank, largest=False), shape)


def without_first_columns(rows: Rows, shape: Shape, rank: int, scale: float) -> Rows:
    """The weight less `scale` times the product of the first `rank` columns of Q and rows of R, of its QR decomposition."""

    def taken(whole: Doubles) -> tuple[Doubles, Doubles]:
        q, _ = np.linalg.qr(whole[:, :rank])
        return q * scale, q.T @ whole

    return _less(rows, taken, shape)


def _less(rows: Rows, taken: Callable[[Doubles], tuple[Doubles, Doubles]], shape: Shape) -> Rows:
    @cache
    def factors() -> tuple[Doubles, Doubles]:
        return taken(rows(0, prod(shape[:-1])).astype(np.float64))

    def less(start: int, stop: int) -> Floats:
        left, right = factors()
        found: Floats = (rows(start, stop) - left[start:stop] @ right).astype(np.float32)
        return found

    return less


def _singular(whole: Doubles, rank: int, *, largest: bool) -> tuple[Doubles, Doubles]:
    """The part of a matrix that its largest or smallest singular values make: projected on their vectors."""
    from scipy.linalg import eigh  # a third of a second that weights without such an adapter do without

    tall = whole.shape[0] >= whole.shape[1]
    gram: Any = whole.T @ whole if tall else whole @ whole.T
    size = len(gram)
    rank = min(rank, size)
    _, vectors = eigh(gram, subset_by_index=(size - rank, size - 1) if largest else (0, rank - 1))
    return (whole @ vectors, vectors.T) if tall else (vectors, vectors.T @ whole)
