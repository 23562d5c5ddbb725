"""The compiled form of `part_sums`: there where a C compiler was at hand when modelkin was installed, and left out of use otherwise.

One pass in place of some twenty over each part; both forms give the same figures (correlations to about 1e-7). Chosen over numba, whose
packages take 208 MB and 0.8 s to import.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkin_indexer.exact.distributions import Histogram
from modelkin_indexer.exact.part_sums import Centre, Floats, Part, PartSums
from modelkin_indexer.exact.units import unit_of

try:
    from modelkin_indexer.exact import _pair_core  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # no compiler when modelkin was installed
    _pair_core = None
CORE: Any = _pair_core


def usable_for(dtype_a: str, dtype_b: str) -> bool:
    """Whether parts of these stored types can be added up by the compiled form; units of whole numbers are left to numpy."""
    return CORE is not None and not any(unit_of(dtype).whole for dtype in (dtype_a, dtype_b))


class CompiledSums(PartSums):
    """As `PartSums`, compiled for contiguous float32 parts."""

    def add(self, a: Part, b: Part, centre: Centre | None, histograms: tuple[Histogram, ...], wide: bool = False) -> Floats:
        """Take in a part: see `PartSums.add`."""
        rows, columns = a.shape
        channels = np.zeros(columns if centre is None else rows)
        centres = (None, None) if centre is None else (centre.a, centre.b)
        units = [unit_of(dtype) for dtype in self.dtypes]
        limits = [number for unit in units for number in (unit.smallest, 2.0**-unit.digits)]
        counts: list[Any] = [histogram.room(a.size) for histogram in histograms] or [None] * 3
        equal, within = CORE.add(a, b, *centres, rows, columns, channels, self.values, *counts, wide, *limits)
        self.n += a.size
        self.equal += equal
        self.within += within
        return channels
