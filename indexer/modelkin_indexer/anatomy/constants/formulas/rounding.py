"""How far stored numbers may lie from what a formula gives: half a step of the type that they were stored in once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Floats = npt.NDArray[np.float64]
LOOKED_AT = 4096  # numbers from which the type is told
BELOW_BF16 = np.uint32(0xFFFF)  # bits of a single that a bfloat16 lacks
SAME = 1e-5  # relative: what computing in single precision leaves between numbers that should be equal


class Rounding(Struct, frozen=True):
    """Half a step: `relative` to a number, and `absolute` for the smallest ones."""

    relative: float
    absolute: float

    def of(self, size: Floats | float) -> Floats | float:
        """What numbers of this size may be off by."""
        return self.relative * size + self.absolute


FINE = Rounding(2.0**-24, 0.0)  # of single precision


def rounding(values: npt.NDArray[np.float32]) -> Rounding:
    """Of the narrowest float type that holds the numbers exactly."""
    some = values.reshape(-1)[:: max(1, values.size // LOOKED_AT)]
    if not (some.view(np.uint32) & BELOW_BF16).any() and not np.isnan(some).any():
        return Rounding(2.0**-9, 0.0)
    with np.errstate(all="ignore"):
        if np.array_equal(some, some.astype(np.float16).astype(np.float32)):
            return Rounding(2.0**-12, 2.0**-25)
    return FINE


def equal(a: Floats, b: Floats | float, error: Rounding) -> npt.NDArray[np.bool_]:
    """Which numbers are equal but for rounding."""
    larger = np.maximum(np.abs(a), np.abs(b))
    close: npt.NDArray[np.bool_] = np.abs(a - b) <= SAME * larger + 2 * error.of(larger)
    return close
