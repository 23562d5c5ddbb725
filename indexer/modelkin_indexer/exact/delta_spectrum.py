"""The largest singular values of a difference of two matrices, in bounded memory: is the change of low rank?

Randomised range finder in two passes (Halko, Martinsson, Tropp, *Finding structure with randomness*, 2011, algorithm 5.1): Y = D G with
G Gaussian, Q = qr(Y), then the singular values of Q'D. Memory: (rows + 2 columns) x DIRECTIONS numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.exact import DeltaSpectrum

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Blocks = Callable[[], Iterator[tuple[int, Singles]]]  # each call streams D once: (first row, rows)
LARGEST_RANK = 128  # LoRA adapters of higher rank are rare; a change of more directions is called dense
OVERSAMPLING = 16
DIRECTIONS = LARGEST_RANK + OVERSAMPLING
SMALLEST_SIDE = 16  # matrices with a shorter side have no rank worth telling
SHOWN_VALUES = 8
# A value counts from this many times sd x (sqrt(rows) + sqrt(columns)), the edge of the spectrum of even noise; that of rounding is uneven,
# and passes 1.2 times the edge in one of 30 matrices of a merged adapter.
EDGE_MARGIN = 1.5
SMALLEST_SHARE = 1e-8  # energy below this share of all is float32 arithmetic, not a part of the change
SEED = 2011


def delta_spectrum(blocks: Blocks, rows: int, columns: int, rounding: float) -> DeltaSpectrum | None:
    """The spectrum of D (rows, columns); None for small matrices and D = 0. `rounding` is the energy that a change of type leaves."""
    if min(rows, columns) < SMALLEST_SIDE:
        return None
    k = min(DIRECTIONS, rows, columns)
    directions = np.random.default_rng(SEED).standard_normal((columns, k)).astype(np.float32)
    sketch, energy = np.empty((rows, k), np.float32), 0.0
    for start, block in blocks():
        sketch[start : start + len(block)] = block @ directions
        energy += float(np.square(block, dtype=np.float64).sum())
    if energy == 0 or not math.isfinite(energy):
        return None
    basis = np.linalg.qr(sketch)[0]
    projected = np.zeros((k, columns), np.float32)
    for start, block in blocks():
        projected += basis[start : start + len(block)].T @ block
    values = np.linalg.svd(projected.astype(np.float64), compute_uv=False)
    return _described(values, energy, rows, columns, rounding)


def _described(values: Floats, energy: float, rows: int, columns: int, rounding: float) -> DeltaSpectrum:
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
