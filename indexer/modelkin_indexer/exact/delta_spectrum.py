"""The largest singular values of a difference of two matrices, in bounded memory: is the change of low rank?

Randomised range finder in two passes (Halko, Martinsson, Tropp, *Finding structure with randomness*, 2011, algorithm 5.1): Y = D G with
G Gaussian, Q an orthonormal basis of Y, then the singular values of Q'D. Memory: (rows + 2 columns) x DIRECTIONS numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.exact import DeltaSpectrum

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Blocks = Iterable[tuple[int, Singles]]  # D once: (first row, rows)
LARGEST_RANK = 128  # LoRA adapters of higher rank are rare; a change of more directions is called dense
OVERSAMPLING = 16
DIRECTIONS = LARGEST_RANK + OVERSAMPLING
SMALLEST_SIDE = 16  # matrices with a shorter side have no rank worth telling
SHOWN_VALUES = 8
# A value counts from this many times sd x (sqrt(rows) + sqrt(columns)), the edge of the spectrum of even noise; that of rounding is uneven,
# and passes 1.2 times the edge in one of 30 matrices of a merged adapter.
EDGE_MARGIN = 1.5
SMALLEST_SHARE = 1e-8  # energy below this share of all is float32 arithmetic, not a part of the change
GRAM_FLOOR = 1e-13  # of the largest eigenvalue: float32 products tell no direction of less (3e-7 of the largest singular value)
SEED = 2011


class Sketch:
    """D G, block by block: the first of the two readings, for which a caller that has D's rows at hand needs none of its own."""

    def __init__(self, rows: int, columns: int) -> None:
        self.columns, self.count = columns, min(DIRECTIONS, rows, columns)
        self.products = np.empty((rows, self.count), np.float32)
        self.energy = 0.0

    def add(self, start: int, block: Singles) -> None:
        """Take in rows [start, start + len(block)) of D."""
        self.products[start : start + len(block)] = block @ _directions(self.columns, self.count)
        self.energy += float(np.vecdot(block, block).sum(dtype=np.float64))

    def basis(self) -> Singles:
        """Orthonormal columns that span the products', by the eigenvectors of their Gram matrix; directions that are only rounding go."""
        products = self.products.astype(np.float64)
        squares, vectors = np.linalg.eigh(products.T @ products)
        told = squares > GRAM_FLOOR * squares[-1]
        return np.asarray(products @ (vectors[:, told] / np.sqrt(squares[told])), np.float32)


@lru_cache(maxsize=2)  # projections up and down take turns
def _directions(columns: int, count: int) -> Singles:
    return np.random.default_rng(SEED).standard_normal((columns, count)).astype(np.float32)


def has_rank(rows: int, columns: int) -> bool:
    """Whether a matrix is large enough for its rank to be told."""
    return min(rows, columns) >= SMALLEST_SIDE


def delta_spectrum(sketch: Sketch, blocks: Blocks) -> Floats | None:
    """The largest singular values of D (rows, columns), descending, from its sketch and one reading more; None for D = 0."""
    if sketch.energy == 0 or not math.isfinite(sketch.energy):
        return None
    basis = sketch.basis()
    projected = np.zeros((basis.shape[1], sketch.columns), np.float32)
    for start, block in blocks:
        projected += basis[start : start + len(block)].T @ block
    wide = projected.astype(np.float64)
    values = np.zeros(sketch.count)  # 0 in directions that the basis does not have
    values[: len(basis.T)] = np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T), 0.0))[::-1]
    return values


def described(sketch: Sketch, values: Floats, rounding: float) -> DeltaSpectrum:
    """What singular values say; `rounding` is the energy that a change to the coarser type leaves."""
    energy, rows, columns = sketch.energy, len(sketch.products), sketch.columns
    captured = np.minimum(np.cumsum(values**2), energy)
    left = np.maximum(energy - captured, SMALLEST_SHARE * energy)
    rank = 0
    while rank < len(values) and values[rank] > EDGE_MARGIN * _edge(energy if rank == 0 else left[rank - 1], rows - rank, columns - rank):
        rank += 1
    remaining = energy - float(captured[rank - 1]) if rank else energy
    return DeltaSpectrum(
        values=tuple(float(value) for value in values[:SHOWN_VALUES]),
        rank=rank,
        saturated=rank >= min(LARGEST_RANK, len(values)),
        stable_rank=energy / float(values[0] ** 2),
        captured=float(captured[rank - 1]) / energy if rank else 0.0,
        left_over_rounding=remaining / rounding if rounding > 0 else None,
        rows=rows,
        columns=columns,
    )


def _edge(energy: float, rows: int, columns: int) -> float:
    """The largest singular value that noise of this energy has (Bai and Yin 1993)."""
    return math.sqrt(energy / (rows * columns)) * (math.sqrt(rows) + math.sqrt(columns)) if rows > 0 and columns > 0 else math.inf
