"""Whether rows of a table are surely none that a formula gives, by what every formula needs at the least.

Weights are noise beside all formulas of fixed_tables.py, and each of these takes a dozen passes to say so. A compiled core says it in
three; it proves and never decides, so that where there is none, or something is not proven, the formulas are asked, with the same result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas import kernels, patterns, shapes, waves
from modelkin_indexer.anatomy.constants.formulas.rounding import SAME, Rounding
from modelkin_indexer.sources.stored.usable import LARGEST

try:
    from modelkin_indexer.anatomy.constants import _noise_core  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    _noise_core = None
CORE: Any = _noise_core  # None where no C compiler was at hand when modelkin was installed
ALIKE = 0.3  # of the numbers' mean deviation: what neighbours on a curve lie apart; of independent ones 1.4 times as much as that
DRAWN_OUT = 0.2  # of the rows, at least, that are so: of short rows of chance 1 in 15, of positions on a grid half
# Of numbers that are as the one before: half of a line's, with so few changes as TOGETHER allows, leave 0.375 less one in a line. If fewer
# are, nothing is bare, and the common number need not be looked for.
NEIGHBOURS, FEWEST_NEIGHBOURS = 0.3, 32
LIMITS = (  # in the order of `Limits` in _noise_core.c, without the rounding
    *(LARGEST, SAME, waves.SILENCE, waves.OFF, waves.FAINT, waves.JUMPS, waves.MOST, waves.SHORTEST, waves.FEWEST_TURNING),
    *(waves.FEWEST_COLUMNS, waves.WINDOWS, waves.FIRST, waves.CIRCLES, waves.ROUND, shapes.SMOOTH, shapes.PREDICTED),
    *(shapes.SHORTEST_CURVE, shapes.EVEN, shapes.MOST * shapes.OWN_PEAK, NEIGHBOURS, FEWEST_NEIGHBOURS, ALIKE, DRAWN_OUT),
    *(kernels.FEW, kernels.REPEATED, kernels.FEWEST_KERNELS, patterns.MOST_VALUES // 2),
)


def surely_noise(rows: npt.NDArray[np.float32], numbers: npt.NDArray[np.int64], error: Rounding) -> bool:
    """Whether no formula gives these rows (n, columns) of a table, at `numbers`, nor nearly; False where that is not proven."""
    if CORE is None or not rows.size:
        return False
    limits = np.array([*LIMITS, error.relative, error.absolute])
    wide = np.ascontiguousarray(rows, np.float32)
    if not CORE.noise(wide, np.ascontiguousarray(numbers, np.int64), limits):
        return False
    return not waves.windowed_waves(wide.astype(np.float64), error)
