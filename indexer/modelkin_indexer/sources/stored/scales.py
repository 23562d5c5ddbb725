"""Numbers of a few bits with scales and zero points, as ONNX, TFLite and CTranslate2 store weights: value = (stored - zero) * scale.

Several in a byte begin with the lowest bits; those of bitsandbytes' tables begin with the high half.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from msgspec import Struct

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
CHUNK = 1 << 20  # numbers decoded at once: bounds memory, and calls cost little beside them
# Numbers of whole bytes by safetensors' words.
WHOLE: dict[str, Any] = {"I8": np.int8, "U8": np.uint8, "I16": np.int16, "U16": np.uint16, "I32": np.int32}
WHOLE |= {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
# bitsandbytes' functional.py: what the codes of its tables stand for. FP4 is a sign and eight numbers.
NF4 = (-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
       0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
       0.7229568362236023, 1)  # fmt: skip
BNB_FP4 = (0, 0.005208333333, 2 / 3, 1, 1 / 3, 0.5, 1 / 6, 0.25)


def _table(*numbers: float) -> Floats:
    return np.array(numbers, np.float32)


# Of parts of bytes: bits, and what the codes stand for.
PACKED: dict[str, tuple[int, Floats]] = {
    "I4": (4, _table(*range(8), *range(-8, 0))),
    "U4": (4, _table(*range(16))),
    "I2": (2, _table(0, 1, -2, -1)),
    "U2": (2, _table(*range(4))),
    "F4": (4, np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)),
    "NF4": (4, _table(*NF4)),
    "LOW_NF4": (4, _table(*NF4)),  # OpenVINO's: the low half first
    "BNB_FP4": (4, _table(*BNB_FP4, *(-number for number in BNB_FP4))),
}
HIGH_FIRST = ("NF4", "BNB_FP4")
SCALED = frozenset((*WHOLE, *PACKED))


class Scales(Struct, frozen=True):
    """How the stored numbers of a tensor of this `shape` become weights.

    `scale` and `zero` (same shape, or one number each) have an axis for each axis of the tensor: of length 1, of the tensor's own length,
    or shorter along one of them: one number for each `block` (0: all blocks are of one size, the least that explains how many there are).
    """

    dtype: str
    shape: tuple[int, ...]
    scale: Floats
    zero: Floats
    block: int = 0

    @property
    def bits(self) -> int:
        return PACKED[self.dtype][0] if self.dtype in PACKED else 8 * np.dtype(WHOLE[self.dtype]).itemsize

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
        skip = low * self.bits % 8 // self.bits
        rows = self._whole(raw)[skip : skip + high - low].astype(np.float32).reshape(-1, width)
        numbers = np.arange(low // row, low // row + len(rows))
        rows -= self._spread(self.zero, numbers, start, width)
        rows *= self._spread(self.scale, numbers, start, width)
        return rows.reshape(-1)

    def _whole(self, raw: Bytes) -> npt.NDArray[Any]:
        if self.dtype not in PACKED:
            return raw.view(WHOLE[self.dtype])
        bits, values = PACKED[self.dtype]
        shifts = np.arange(0, 8, bits, dtype=np.uint8)[:: -1 if self.dtype in HIGH_FIRST else 1]
        codes = (raw[:, None] >> shifts & np.uint8((1 << bits) - 1)).reshape(-1)
        return np.take(values, codes)

    def _spread(self, numbers: Floats, rows: npt.NDArray[np.int64], start: int, width: int) -> Floats:
        """Scales or zero points of columns [start, start + width) of some rows, as an array that goes with them."""
        if numbers.size == 1:
            return numbers.reshape(1, 1)
        last = max((axis for axis, n in enumerate(self.shape) if n > 1), default=0)
        index = np.zeros(len(rows), np.int64)
        rest = rows
        step = 1
        for axis in range(last - 1, -1, -1):
            block = self._block(axis, numbers.shape[axis])
            index += rest % self.shape[axis] // block * step
            rest = rest // self.shape[axis]
            step *= numbers.shape[axis]
        table = numbers.reshape(step, -1)[index]
        if table.shape[1] == 1:
            return table
        return table[:, np.arange(start, start + width) // self._block(last, table.shape[1])]

    def _block(self, axis: int, count: int) -> int:
        """How many numbers along an axis share one of `count` scales."""
        length = self.shape[axis]
        return self.block if self.block and 1 < count < length else -(-length // count)


def fits(shape: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    """Whether scales of shape `scale` go with a tensor: as many axes, none longer than the tensor's."""
    return len(shape) == len(scale) and all(0 < few <= many for few, many in zip(scale, shape, strict=True))
