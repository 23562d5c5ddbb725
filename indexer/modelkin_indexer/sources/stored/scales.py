"""Whole numbers with scales and zero points, as ONNX, TFLite and CTranslate2 store quantised weights: value = (stored - zero) * scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
CHUNK = 1 << 20  # numbers decoded at once: bounds memory, and calls cost little beside them
# Whole numbers by safetensors' words; those of 4 bits stand two in a byte, the first in the low half.
WHOLE: dict[str, Any] = {"I8": np.int8, "U8": np.uint8, "I16": np.int16, "U16": np.uint16, "I32": np.int32, "I4": np.int8, "U4": np.uint8}
HALF_BYTES = ("I4", "U4")


@dataclass(frozen=True)
class Scales:
    """How the whole numbers of a tensor of this `shape` become weights.

    `scale` and `zero` (same shape, or one number each) have an axis for each axis of the tensor: of length 1, of the tensor's own length,
    or shorter by a factor `block` along one of them: one number for each block.
    """

    dtype: str
    shape: tuple[int, ...]
    scale: Floats
    zero: Floats

    @property
    def bits(self) -> int:
        return 4 if self.dtype in HALF_BYTES else 8 * np.dtype(WHOLE[self.dtype]).itemsize

    @property
    def _row(self) -> int:
        """Numbers in a row: the last axis longer than 1."""
        return next((n for n in reversed(self.shape) if n > 1), 1)

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Cuts elements [first, last) into pieces of one row, or of whole rows."""
        low, row = first, self._row
        while low < last:
            inside = low % row
            whole = max(1, CHUNK // row) * row if not inside and last - low >= row else row - inside
            high = min(low + whole, last if inside or last - low < row else last // row * row)
            yield low, high
            low = high

    def bytes_of(self, low: int, high: int) -> tuple[int, int]:
        """Where elements [low, high) are stored."""
        return low * self.bits // 8, -(-high * self.bits // 8)

    def decode(self, raw: Bytes, low: int, high: int) -> Floats:
        """The weights [low, high) from their bytes: a piece of `chunks`."""
        row, start = self._row, low % self._row
        width = min(row - start, high - low)
        skip = low * self.bits % 8 // 4
        rows = self._whole(raw)[skip : skip + high - low].astype(np.float32).reshape(-1, width)
        numbers = np.arange(low // row, low // row + len(rows))
        rows -= self._spread(self.zero, numbers, start, width)
        rows *= self._spread(self.scale, numbers, start, width)
        return rows.reshape(-1)

    def _whole(self, raw: Bytes) -> npt.NDArray[Any]:
        if self.dtype not in HALF_BYTES:
            return raw.view(WHOLE[self.dtype])
        halves = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)
        return halves if self.dtype == "U4" else (halves.astype(np.int8) ^ 8) - np.int8(8)

    def _spread(self, numbers: Floats, rows: npt.NDArray[np.int64], start: int, width: int) -> Floats:
        """Scales or zero points of columns [start, start + width) of some rows, as an array that goes with them."""
        if numbers.size == 1:
            return numbers.reshape(1, 1)
        last = max((axis for axis, n in enumerate(self.shape) if n > 1), default=0)
        index = np.zeros(len(rows), np.int64)
        rest = rows
        step = 1
        for axis in range(last - 1, -1, -1):
            block = -(-self.shape[axis] // numbers.shape[axis])
            index += rest % self.shape[axis] // block * step
            rest = rest // self.shape[axis]
            step *= numbers.shape[axis]
        table = numbers.reshape(step, -1)[index]
        if table.shape[1] == 1:
            return table
        return table[:, np.arange(start, start + width) // -(-self._row // table.shape[1])]


def fits(shape: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    """Whether scales of shape `scale` go with a tensor: as many axes, none longer than the tensor's."""
    return len(shape) == len(scale) and all(0 < few <= many for few, many in zip(scale, shape, strict=True))
