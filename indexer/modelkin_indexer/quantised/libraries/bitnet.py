"""BitNet (b1.58): weights of -1, 0 and 1, two bits each. Byte row r holds rows r, r + n, r + 2n, r + 3n of the weight, n the number of byte
rows, the first in the lowest bits; code 0 is -1. One scale for all: BitLinear divides by it, AutoBitLinear multiplies.

Told by `quant_method`, else by what is in the bytes: code 3 does not occur. Rows that fill up the last byte rows hold only code 0. Where
the config does not say which layer it is for, a scale above 1 is one to divide by: it is then one over the mean size of the weights.
https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/bitnet.py
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Bytes, Floats
from modelkin_indexer.quantised.parts import Found, Parts, Plain

IN_BYTE = 4
METHOD, MULTIPLYING = "bitnet", "autobitlinear"
FLOATS = ("F32", "F16", "BF16")
LOOKED_AT = 1 << 16  # bytes: code 3 would be in a quarter of random ones


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every module with a weight of bytes and one scale whose codes are ternary."""
    for found in parts.modules.values():
        weight, scale = found.get("weight"), found.get("weight_scale")
        if weight is None or scale is None or weight.dtype != "U8" or len(weight.shape) != 2 or scale.dtype not in FLOATS:
            continue
        if scale.elements == 1 and _is_ternary(parts, weight):
            layer = _Layer(parts, weight.name, scale.name, *weight.shape)
            bias = found.get("bias")
            rows = layer.height if bias is None else bias.elements
            if not IN_BYTE * (weight.shape[0] - 1) < rows <= IN_BYTE * weight.shape[0]:
                raise parts.damaged(weight.name, f"has {weight.shape[0]} rows of four, which contradicts its bias of {rows} numbers")
            yield Plain(weight.name, (rows, weight.shape[1]), "BitNet, ternary", (weight.name, scale.name), layer.rows)
        elif parts.method == METHOD:
            raise parts.damaged(weight.name, "is said to be ternary, but holds other codes, or more scales than one")


def _is_ternary(parts: Parts, weight: TensorInfo) -> bool:
    """By the first bytes of it."""
    stored = parts.raw_bytes(weight.name, 0, min(weight.nbytes, LOOKED_AT))
    return not bool((stored & (stored >> np.uint8(1)) & np.uint8(0b01010101)).any())


class _Layer(Struct, frozen=True):
    parts: Parts
    name: str
    scale: str
    stored: int
    columns: int

    @property
    def height(self) -> int:
        """Rows without those at the end that hold only code 0."""
        rows = IN_BYTE * self.stored
        filled = np.flatnonzero(self._codes(rows - IN_BYTE + 1, rows).any(axis=1))
        return rows - IN_BYTE + 2 + int(filled[-1]) if len(filled) else rows - IN_BYTE + 1

    def rows(self, start: int, stop: int) -> Floats:
        numbers = self._codes(start, stop).astype(np.float32)
        numbers -= np.float32(1)
        numbers *= self._factor
        return numbers

    def _codes(self, start: int, stop: int) -> Bytes:
        codes = np.empty((stop - start, self.columns), np.uint8)
        for part in range(start // self.stored, -(-stop // self.stored)):
            low, high = max(start, part * self.stored), min(stop, (part + 1) * self.stored)
            stored = self.parts.raw_rows(self.name, low - part * self.stored, high - part * self.stored)
            codes[low - start : high - start] = stored >> np.uint8(2 * part) & np.uint8(3)
        return codes

    @property
    def _factor(self) -> np.float32:
        scale = np.float32(self.parts.number(self.scale))
        stated = str(self.parts.stated.get("linear_class", "")).lower()
        multiplies = stated == MULTIPLYING if stated else abs(scale) <= 1
        with np.errstate(divide="ignore"):
            return scale if multiplies else np.float32(1) / scale
