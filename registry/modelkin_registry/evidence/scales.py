"""Whether rows differ in size because parts were drawn at scales of their own, or row by row as training makes them.

Rows are sampled in two blocks of neighbours, and each has 16 numbers of a sketch. Rows of one part are of one size: within a block their
energies then differ by the sketch's own noise. Where neurons learned each at its own pace they differ within a block as much as elsewhere.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.start_nulls import trigamma

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
BLOCKS, NEIGHBOURS = spec.MATRIX_BLOCKS, spec.MATRIX_BLOCK_ROWS
ROWS = BLOCKS * NEIGHBOURS
NOISE = trigamma(spec.PROBE_NUMBERS / ROWS / 2)  # variance of the logarithm of a sum of so many squares of normal numbers
# How much more likely parts have to be, over all matrices of a shape: a model has some tens of shapes. Draws at one scale reach 0.6; of 778
# shapes of published models 10 are above it, and 10 of their 120 matrices then hold nothing learned (odd_starts.json).
LIKELIER = math.log(1000)
FREEDOM = BLOCKS * (NEIGHBOURS - 1)


def drawn_in_parts(table: Matrices) -> Bools:
    """Of each matrix whether its rows differ by parts: decided over all matrices of its shape together, which are drawn alike."""
    known = table.worked_out
    if drawn_in_parts not in known:
        found, shapes = np.zeros(len(table), np.bool_), defaultdict[tuple[int, int], list[int]](list)
        for row, (rows, columns, experts) in enumerate(
            zip(table.rows.tolist(), table.columns.tolist(), table.experts.tolist(), strict=True)
        ):
            if experts == 1 and rows >= ROWS and not sketch.is_tall(rows, columns) and math.isfinite(table.row_spread[row]):
                shapes[rows, columns].append(row)
        for at in shapes.values():
            found[at] = _likelier_parts(table, at)
        known[drawn_in_parts] = found
    return known[drawn_in_parts]  # type: ignore[no-any-return]


def _likelier_parts(table: Matrices, rows: list[int]) -> bool:
    """The likelihood of the variance within blocks by noise alone, against noise and the variance that rows have in all (chi-square)."""
    within = _variance_within(table.probe[rows].astype(np.float64))
    each = NOISE + 4 * table.row_spread[rows].astype(np.float64) ** 2
    gain = np.log(each / NOISE) + within * (1 / each - 1 / NOISE)
    return bool(FREEDOM / 2 * np.nansum(gain) >= LIKELIER)


def _variance_within(sketches: Floats) -> Floats:
    """(n, numbers) -> (n,): variance of the logarithms of the rows' energies about their block's mean; NaN where a row is zeros."""
    energies = np.square(sketches.reshape(len(sketches), BLOCKS, NEIGHBOURS, -1)).sum(axis=3)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(energies)
        return np.asarray(((logarithms - logarithms.mean(axis=2, keepdims=True)) ** 2).sum(axis=(1, 2)) / FREEDOM)
