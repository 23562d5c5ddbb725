"""Floats of 4, 6 and 8 bits with a scale for a group of columns, in any packing that libraries use: E2M1, E2M3, E3M2, E4M3, E5M2."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from modelkin_indexer.quantised.group_scales import GroupScales
from modelkin_indexer.quantised.packing import (
    FP4_VALUES,
    FP6_E2M3_VALUES,
    FP6_E3M2_VALUES,
    Bytes,
    Floats,
    by_groups,
    nibbles,
    unpack_bits,
)
from modelkin_indexer.quantised.parts import Parts
from modelkin_indexer.sources.stored import values

BITS = {"E2M1": 4, "E2M3": 6, "E3M2": 6, "F8_E4M3": 8, "F8_E5M2": 8}
TABLES = {"E2M1": FP4_VALUES, "E2M3": FP6_E2M3_VALUES, "E3M2": FP6_E3M2_VALUES}


class Overall(Struct, frozen=True):
    """A scale of a whole matrix, or one for each of a stack of matrices of `height` rows, in units of `unit`; `divides` where scales are
    divided by it."""

    name: str
    divides: bool = False
    height: int = 0
    unit: float = 1.0

    def over_rows(self, parts: Parts, start: int, stop: int) -> Floats:
        """What the scales of rows [start, stop) are multiplied with: [stop - start, 1], or [1, 1] where it is one number."""
        numbers = parts.span(self.name, 0, parts.tensors[self.name].elements).reshape(-1, 1)
        with np.errstate(divide="ignore"):
            factors: Floats = np.float32(1) / numbers if self.divides else numbers * np.float32(self.unit)
        return factors if len(factors) == 1 else factors[np.arange(start, stop) // self.height]


class SmallFloats(Struct, frozen=True):
    """A weight whose stored rows hold `columns` codes, `size` of them under one scale. `high_first`: of two codes in a byte."""

    parts: Parts
    name: str
    code: str
    columns: int
    size: int
    scales: GroupScales
    overall: Overall | None = None
    high_first: bool = False

    def rows(self, start: int, stop: int) -> Floats:
        width = self.columns * BITS[self.code] // 8
        packed = self.parts.raw_bytes(self.name, start * width, stop * width).reshape(stop - start, width)
        numbers = self._numbers(packed)
        scales = self.scales.rows(start, stop)
        if self.overall is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                scales = scales * self.overall.over_rows(self.parts, start, stop)
        by_groups(np.multiply, numbers, scales, self.size)
        return numbers

    def _numbers(self, packed: Bytes) -> Floats:
        bits = BITS[self.code]
        if bits == 8:
            return values.decode(self.code, packed.reshape(-1)).reshape(packed.shape)
        codes = nibbles(packed, high_first=self.high_first) if bits == 4 else unpack_bits(packed, bits, self.columns)
        found: Floats = TABLES[self.code][codes]
        return found
