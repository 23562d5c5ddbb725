"""The unit in the last place of stored types: how far a mere change of type may move a number."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from msgspec import Struct

Singles = npt.NDArray[np.float32]
_FLOATS = {
    "F64": np.float32,  # values are compared as float32
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}
_EXPONENT = np.uint32(0x7F800000)
SIXTEEN_BITS = ("BF16", "F8_E4M3", "F8_E5M2", "BOOL")  # exact in the upper half of a float32


class Unit(Struct, frozen=True):
    """Binary digits after the leading one, and the smallest normal number; whole numbers have steps of 1."""

    digits: int
    smallest: float
    whole: bool = False

    def sizes(self, values: Singles) -> Singles:
        """The unit at each of some magnitudes (contiguous)."""
        if self.whole:
            return np.ones_like(values)
        powers = (values.view(np.uint32) & _EXPONENT).view(np.float32)
        return np.maximum(powers, np.float32(self.smallest)) * np.float32(2.0**-self.digits)


@cache
def unit_of(dtype: str) -> Unit:
    """The unit of one stored type."""
    if dtype not in _FLOATS:
        return Unit(0, 1.0, whole=True)
    limits: Any = ml_dtypes.finfo(_FLOATS[dtype])  # type: ignore[no-untyped-call]
    return Unit(int(limits.nmant), float(limits.smallest_normal))


def coarser(a: str, b: str, values: Singles) -> Singles:
    """The larger unit of two types at each of some magnitudes: a type of more digits is the coarser one below its smallest number."""
    return np.maximum(unit_of(a).sizes(values), unit_of(b).sizes(values))


def are_sixteen_bits(*dtypes: str) -> bool:
    """Whether the upper half of a float32 tells all numbers of these types apart."""
    return all(dtype in SIXTEEN_BITS for dtype in dtypes)
