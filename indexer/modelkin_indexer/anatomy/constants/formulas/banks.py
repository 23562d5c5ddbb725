"""Banks of filters that a formula started and training went on with: no formula gives their numbers, but the order of their bands stays.

What starts from a draw learns bands in any order: of n lines the band falls in (n - 1) / 2 places, with a variance of (n + 1) / 12
(Eulerian numbers), so of 16 lines in one place or none once in 3e8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.medians import different
from modelkin_indexer.anatomy.constants.formulas.waves import DIFFERENT, NEAR

Floats = npt.NDArray[np.float64]
SHORTEST = 64  # of a line: the 9 bins around the strongest are then no more than a quarter of all
FEWEST = 16  # lines whose order tells anything
NARROW = 0.6  # share of a line's energy within NEAR bins of the strongest; of independent numbers 0.4 and less (64 numbers)
MOST = 0.9  # of the lines must be so narrow, ...
FALLS = 0.1  # ... and in no more of the places may the band fall: cosines and sines behind each other fall once


def narrow(lines: Floats) -> bool:
    """Whether most of these lines (lines, length) have their energy in one narrow band each."""
    if lines.shape[1] < SHORTEST or not len(lines):
        return False
    power = _power(lines)
    away = np.abs(np.arange(power.shape[1]) - power.argmax(axis=1)[:, None])
    near, total = np.where(away <= NEAR, power, 0.0).sum(axis=1), power.sum(axis=1)
    return bool(np.mean(near >= NARROW * np.maximum(total, np.finfo(np.float64).tiny)) >= MOST)


def _power(lines: Floats) -> Floats:
    """By frequency; an offset, as gains have it, is no band."""
    return np.asarray(np.abs(np.fft.rfft(lines - lines.mean(axis=1, keepdims=True), axis=1)) ** 2, np.float64)


def ordered(lines: Floats) -> bool:
    """Whether these lines, in their order, are narrow bands that rise from line to line."""
    if len(lines) < FEWEST or not narrow(lines):
        return False
    bands = _power(lines).argmax(axis=1)
    falls = np.count_nonzero(np.diff(bands) < 0)
    return bool(falls <= FALLS * (len(lines) - 1) and different(bands) >= DIFFERENT * len(lines))
