"""What unrelated weights give: the null of a cosine between sketches, and the p-values that follow from it.

A single place's null is measured on the same pair's mismatched layers, and never taken to be narrower than the sketch's own noise.
Averages over places get a second term, `BETWEEN_MODELS`: strangers share a little structure (token frequencies, rotary patterns), and
that does not average out over layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.results.channels import TABLE
from modelkin_registry.evidence.judge import Judge

Floats = npt.NDArray[np.float64]
SKETCH_NUMBERS = {**{one.name: one.free for one in TABLE}, "vector": spec.VECTOR_NUMBERS}
FEWEST_MISMATCHES = 12  # below this many mismatched cells a measured spread is too uncertain to replace the sketch's own
NORMAL_PER_MAD = 1.4826  # median absolute deviation to standard deviation of a normal
SMALLEST_P = 1e-30  # a tail further out is not measured by anything; smaller values are reported as this
FEWEST_STRANGERS = 8  # strangers of equal shape needed to measure how far they spread


class Null(NamedTuple):
    """Mean and standard deviation of a cosine between unrelated places. A tuple, since each place has one."""

    mean: float
    sd: float


def sketch_noise(kind: str, numbers: int) -> float:
    """Standard deviation of the cosine of two unrelated sketches, each made of that many numbers: 1/sketch + 1/(numbers - 1), rooted."""
    return math.sqrt(1.0 / SKETCH_NUMBERS[kind] + 1.0 / max(numbers - 1, 1))


@lru_cache(maxsize=1024)
def sketch_noises(kind: str, numbers: tuple[int, ...]) -> Floats:
    """The same of several sketches, read only."""
    found = np.array([sketch_noise(kind, count) for count in numbers])
    found.setflags(write=False)
    return found


def typical(cells: Floats, noise: Floats, *, trust_few: bool = False) -> tuple[Floats, Floats]:
    """Middle and spread of each role's cells (roles, n), robust against a few unknown repeats; NaN cells are passed over.

    A spread is never below the role's `noise` (roles,). A role with too few cells gets 0 and its noise; with `trust_few` (cells that are
    known mismatches) their mean, with a spread that is wider the fewer they are.
    """
    known = np.isfinite(cells)
    if known.all():
        return _typical_of_known(cells, noise, trust_few)
    parts = [row[mask][None, :] for row, mask in zip(cells, known, strict=True)]
    found = [_typical_of_known(part, noise[[at]], trust_few) for at, part in enumerate(parts)]
    return np.array([middle[0] for middle, _ in found]), np.array([spread[0] for _, spread in found])


def _typical_of_known(cells: Floats, noise: Floats, trust_few: bool) -> tuple[Floats, Floats]:
    """`typical` of roles that have every cell."""
    count = cells.shape[1]
    if count >= FEWEST_MISMATCHES:
        middle = medians(cells)
        return middle, np.maximum(NORMAL_PER_MAD * medians(np.abs(cells - middle[:, None])), noise)
    if not trust_few or not count:
        return np.zeros(len(cells)), noise
    rows = np.ascontiguousarray(cells)  # summed in the same order, however many roles there are
    return rows.mean(axis=1), np.maximum(rows.std(axis=1), noise) * math.sqrt(1 + 1 / count)


def median(values: npt.ArrayLike) -> float:
    """Median of finite values (n,); NaN of none. Without np.median, whose first call imports numpy.ma: a twentieth of a query's start."""
    found = np.asarray(values)
    return float(medians(found[None, :])[0]) if found.size else math.nan


def medians(values: Floats) -> Floats:
    """Median of each row of finite values (rows, n): as np.median, which takes five times as long for so few values."""
    half = values.shape[1] // 2
    ordered = np.partition(values, half, axis=1)
    if values.shape[1] % 2:
        return np.asarray(ordered[:, half])
    return np.asarray((ordered[:, :half].max(axis=1) + ordered[:, half]) / 2)  # a second place to part at would take three times as long


def crossing_nulls(cosines: Floats, matched: npt.NDArray[np.bool_], noise: Floats) -> tuple[Floats, Floats]:
    """For each cell (roles, n, m) the mean of the mismatched cells of its own row and column, 0 without any: a matched cell's null.

    And for each role the spread of mismatched cells about their own such means, never below its `noise` (roles,). For gram and anchored,
    where all layers of one model share dominant directions (0.5-0.9 between its layers): a matched layer has to stand out from its
    neighbours, while what any two layers of these models have in common counts for nothing.
    """
    known = ~matched & np.isfinite(cosines)
    values = np.where(known, cosines, 0.0)
    total = values.sum(axis=2)[:, :, None] + values.sum(axis=1)[:, None, :]
    count = known.sum(axis=2)[:, :, None] + known.sum(axis=1)[:, None, :]
    means = total / np.maximum(count, 1)
    others = np.where(known, (total - 2 * values) / np.maximum(count - 2, 1), np.nan)  # a cell counts in its own row and column
    found = np.where(known & (count > 2), cosines - others, np.nan).reshape(len(cosines), -1)
    return means, np.maximum(_spreads(found), noise)


def _spreads(found: Floats) -> Floats:
    """Robust spread about 0 of the finite values of each row (rows, n); 0 where there are too few."""
    there = np.isfinite(found)
    if (there == there[:1]).all():  # the same cells in every role
        chosen = found[:, there[0]]
        return NORMAL_PER_MAD * medians(np.abs(chosen)) if chosen.shape[1] >= FEWEST_MISMATCHES else np.zeros(len(found))
    counts = np.count_nonzero(there, axis=1).tolist()
    rows = zip(found, there, counts, strict=True)
    return np.array([NORMAL_PER_MAD * median(np.abs(row[at])) if count >= FEWEST_MISMATCHES else 0.0 for row, at, count in rows])


def average_null(nulls: Sequence[Null], family: str, channel: str, judge: Judge) -> Null:
    """Null of the mean of independent places, with what strangers of this family share between models.

    That is the registry's background, or what strangers show of this very query where that is more.
    """
    count = len(nulls)
    mean = sum([null.mean for null in nulls]) / count
    within = math.sqrt(sum([null.sd**2 for null in nulls])) / count
    own = judge.strangers.get((family, channel), 0.0)
    between = max(judge.between_models(family, channel), math.sqrt(max(own**2 - within**2, 0.0)))
    return Null(mean, math.sqrt(within**2 + between**2))


def strangers_spread(values: Sequence[float]) -> float:
    """Robust spread around 0 of what strangers show; 0 where there are too few."""
    return NORMAL_PER_MAD * median(np.abs(values)) if len(values) >= FEWEST_STRANGERS else 0.0


def two_sided_p(z: float, tests: float = 1) -> float:
    """Normal tails beyond |z|, corrected for the number of tests (Bonferroni). Not yet floored: see `reported_p`."""
    return min(1.0, math.erfc(abs(z) / math.sqrt(2.0)) * tests)


def reported_p(p_value: float) -> float:
    """A p-value as it may be told: never below SMALLEST_P."""
    return min(1.0, max(p_value, SMALLEST_P))
