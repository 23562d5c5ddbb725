"""Middles and spreads of many rows at once, as evidence/nulls.py has them of one pair: the same numbers, NaN passed over."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from modelkin_registry.evidence.nulls import FEWEST_MISMATCHES, NORMAL_PER_MAD, medians, typical

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def typical_rows(cells: Floats, noise: Floats, *, trust_few: bool = False) -> tuple[Floats, Floats]:
    """`nulls.typical` of any number of rows: cells (rows, n), noise (rows,); middle and spread (rows,) each."""
    rows, count = cells.shape
    if count == 0:
        return np.zeros(rows), noise.copy()
    known = np.isfinite(cells).all(axis=1)
    middle, spread = np.zeros(rows), noise.copy()
    if known.any():
        whole, least = (cells, noise) if known.all() else (cells[known], noise[known])
        middle[known], spread[known] = _typical(whole, least, trust_few)
    for row in np.flatnonzero(~known).tolist():
        middle[row], spread[row] = (float(one[0]) for one in typical(cells[[row]], noise[[row]], trust_few=trust_few))
    return middle, spread


def _typical(cells: Floats, noise: Floats, trust_few: bool) -> tuple[Floats, Floats]:
    """Of rows of finite numbers."""
    count = cells.shape[1]
    if count >= FEWEST_MISMATCHES:
        middle = medians(cells)
        return middle, np.maximum(NORMAL_PER_MAD * medians(np.abs(cells - middle[:, None])), noise)
    if not trust_few:
        return np.zeros(len(cells)), noise
    return cells.mean(axis=1), np.maximum(cells.std(axis=1), noise) * math.sqrt(1 + 1 / count)


def mismatch_nulls(cosines: Floats, matched: Bools, noise: Floats) -> tuple[Floats, Floats]:
    """Middle and spread (pairs, roles) of each role's cells that are not matched: cosines (pairs, roles, n, m), matched (pairs, n, m)."""
    pairs, roles = noise.shape
    middle, spread = np.zeros((pairs, roles)), noise.copy()
    left = (~matched).reshape(pairs, -1)
    counts = left.sum(axis=1)
    cells = cosines.reshape(pairs, roles, -1)
    for count in np.unique(counts).tolist():
        at = np.flatnonzero(counts == count)
        places = np.nonzero(left[at])[1].reshape(len(at), 1, count)
        chosen = np.take_along_axis(cells[at] if len(at) < pairs else cells, np.broadcast_to(places, (len(at), roles, count)), axis=2)
        found = typical_rows(chosen.reshape(len(at) * roles, count), noise[at].reshape(-1), trust_few=True)
        middle[at], spread[at] = (one.reshape(len(at), roles) for one in found)
    return middle, spread


def crossing_rows(cosines: Floats, matched: Bools, noise: Floats) -> tuple[Floats, Floats]:
    """`nulls.crossing_nulls` of many pairs: means (pairs, roles, n, m) and spread (pairs, roles)."""
    known = ~matched[:, None] & np.isfinite(cosines)
    values = np.where(known, cosines, 0.0)
    total = values.sum(axis=3)[..., None] + values.sum(axis=2)[:, :, None]
    count = known.sum(axis=3)[..., None] + known.sum(axis=2)[:, :, None]
    means = total / np.maximum(count, 1)
    others = (total - 2 * values) / np.maximum(count - 2, 1)
    left = np.where(known & (count > 2), np.abs(cosines - others), np.nan).reshape(*noise.shape, -1)
    return means, np.maximum(_medians_of_known(left), noise)


def _medians_of_known(left: Floats) -> Floats:
    """NORMAL_PER_MAD times the median of the finite ones of the last axis, 0 of too few."""
    ordered = np.sort(left, axis=-1)  # NaN last
    count = np.isfinite(left).sum(axis=-1)
    half = np.maximum(count, 1) // 2
    low = np.where(count % 2 == 1, half, np.maximum(half - 1, 0))
    middle = (np.take_along_axis(ordered, low[..., None], -1) + np.take_along_axis(ordered, half[..., None], -1))[..., 0] / 2
    return np.where(count >= FEWEST_MISMATCHES, NORMAL_PER_MAD * middle, 0.0)
