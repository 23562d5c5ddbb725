"""Tables of curves: filters of one bump each (mel, triangles, bells), shares of a resizing, even steps (grids, indices), smooth curves."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.medians import different, median, medians
from modelkin_indexer.anatomy.constants.formulas.rounding import SAME, Rounding

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FLAT = 1e-6  # of the table's largest number: what is not above the floor
WIDE = 1.0  # decades by which a line's order must be unlikely to count: of 6 numbers 1 in 22 orders has one bump
UNLIKELY = 12.0  # decades that all lines together must be unlikely by
FEWEST_BUMPS = 4  # lines, and peaks that differ: a filter bank or a resizing has more
OWN_PEAK = 0.25  # of the bumps have a peak of their own: rows that all rise are no filters (the decays of Mamba)
BANDED = 0.5  # of a line's numbers, at most, that a resizing takes
EVEN = 0.7  # of three numbers that follow each other and are not all the most common one, so many keep their step
MOST = 0.97  # of the lines
CLEAR = 2.0  # times what rounding leaves: the middle step, at least
FEWEST_STEPS = 32  # of all lines together
SMOOTH = 0.75  # of the inner numbers of the lines that their neighbours predict
PREDICTED = 3e-4  # of the spread of the numbers around: trained numbers are off by more than all of it, 1 in 3,000 by less
SHORTEST_CURVE = 16  # numbers of a line: six neighbours foretell each, so shorter ones say little
# Six neighbours give the middle of a curve of degree 5: (1, -6, 15, ., 15, -6, 1) / 20.
NEIGHBOURS = np.array([1.0, -6.0, 15.0, 0.0, 15.0, -6.0, 1.0]) / 20


def bumps(lines: Floats, error: Rounding) -> bool:
    """Whether each line rises once and falls once, one peak after the other."""
    top, floor = float(lines.max()), float(lines.min())
    if len(lines) < FEWEST_BUMPS or top <= floor:
        return False
    largest = max(abs(top), abs(floor))
    slack = FLAT * largest + 2 * error.of(largest)
    raised = lines - floor
    raised = raised[raised.max(axis=1) > slack]
    peaks = raised.argmax(axis=1)
    if len(raised) < FEWEST_BUMPS or different(peaks) < max(FEWEST_BUMPS, OWN_PEAK * len(peaks)):
        return False
    steps, rising = np.diff(raised, axis=1), np.arange(raised.shape[1] - 1) < peaks[:, None]
    if (np.where(rising, -steps, steps) > slack).any() or not _ordered(peaks):
        return False
    support = (raised > slack).sum(axis=1)
    orders = np.array([math.lgamma(count + 1) for count in support.tolist()])  # scipy's gammaln takes longer to import
    decades = (orders - (support - 1) * np.log(2)) / np.log(10)
    return float(np.maximum(decades - WIDE, 0).sum()) >= UNLIKELY


def shares(lines: Floats, error: Rounding) -> bool:
    """Whether each line takes shares, which add up to the same, of a few neighbours, further on with each line."""
    written = np.abs(lines) > FLAT * np.abs(lines).max(initial=0)
    if len(lines) < FEWEST_BUMPS or not written.any(axis=1).all():
        return False
    first, last = written.argmax(axis=1), lines.shape[1] - 1 - written[:, ::-1].argmax(axis=1)
    total = lines.sum(axis=1)
    size = np.abs(lines).sum(axis=1).max()
    banded = (last - first + 1).max() <= BANDED * lines.shape[1] and (last - first).mean() >= 0.5
    same = np.ptp(total) <= SAME * size + 2 * lines.shape[1] ** 0.5 * error.of(size) and abs(total.mean()) > 0.1 * size
    moving = different(first) >= max(FEWEST_BUMPS, OWN_PEAK * len(first))
    return bool(banded and same and moving and _ordered(first) and _ordered(last))


def _ordered(places: npt.NDArray[np.int64]) -> bool:
    steps = np.diff(places)
    return bool(min((steps < 0).mean(), (steps > 0).mean()) <= 1 - MOST)


def may_step(lines: Floats, error: Rounding) -> bool:
    """Whether enough numbers keep their step for `even_steps`, with this error or a smaller one."""
    return lines.shape[1] >= 5 and bool((_even(lines, error).sum(axis=1) >= EVEN * _fewest(lines)).mean() >= MOST * OWN_PEAK)


def _even(lines: Floats, error: Rounding) -> Bools:
    """Which steps are as the next one."""
    return np.asarray(np.abs(np.diff(lines, n=2, axis=1)) <= _slack(lines, error))


def _slack(lines: Floats, error: Rounding) -> float:
    return SAME * float(np.ptp(lines)) + float(3 * error.of(float(np.abs(lines).max(initial=0))))


def _fewest(lines: Floats) -> int:
    """Numbers of a line that must be told."""
    return min(8, int(lines.shape[1]) // 2)


def even_steps(lines: Floats, error: Rounding) -> bool:
    """Whether numbers go on in even steps but for kinks: counted, spaced, distances, indices, grids."""
    if not may_step(lines, error):
        return False
    slack, even, fewest = _slack(lines, error), _even(lines, error), _fewest(lines)
    size = np.abs(np.diff(lines, axis=1))
    if not (size > slack).any() or median(size[size > SAME * np.ptp(lines)]) < CLEAR * slack:
        return False
    common = medians(lines)[:, None]
    usual = np.abs(lines - common) <= slack
    counted = ~(usual[:, :-2] & usual[:, 1:-1] & usual[:, 2:])
    number = counted.sum(axis=1)
    told = number >= fewest
    if not told.any() or number.sum() < FEWEST_STEPS:
        return False
    kept = np.where(counted & even, 1, 0).sum(axis=1) >= EVEN * number
    return bool(kept[told].mean() >= MOST and told.mean() >= OWN_PEAK)


def may_be_smooth(lines: Floats, error: Rounding) -> bool:
    """Whether enough numbers are foretold for `smooth`, with this error or a smaller one: of noise next to none are."""
    if lines.shape[1] < SHORTEST_CURVE:
        return False
    missed = _missed(lines)
    most = PREDICTED * float(np.ptp(lines)) + 3 * error.of(float(np.abs(lines).max()))  # no spread is wider, no number larger
    return bool((missed <= most).sum() >= SMOOTH * max(SHORTEST_CURVE // 2, 0.5 * missed.size))


def _missed(lines: Floats) -> Floats:
    """How far inner numbers are from what their neighbours foretell."""
    reach = len(NEIGHBOURS) // 2
    inner = lines.shape[1] - 2 * reach
    predicted = sum(factor * lines[:, at : at + inner] for at, factor in enumerate(NEIGHBOURS.tolist()) if factor)
    return np.asarray(np.abs(predicted - lines[:, reach:-reach]))


def smooth(lines: Floats, error: Rounding) -> bool:
    """Whether the numbers of each line lie on a smooth curve, told by what six neighbours predict."""
    if not may_be_smooth(lines, error):
        return False
    missed = _missed(lines)
    if median(np.abs(np.diff(lines, axis=1))) > lines.std():  # of noise the steps are as large
        return False
    around = np.lib.stride_tricks.sliding_window_view(lines, len(NEIGHBOURS), axis=1)
    spread = around.std(axis=2)
    off = 3 * error.of(np.abs(around).max(axis=2))
    moving = spread > 8 * off
    if moving.sum() < max(SHORTEST_CURVE // 2, 0.5 * moving.size):
        return False
    return float((missed <= PREDICTED * spread + off)[moving].mean()) >= SMOOTH
