"""Blocks of ggml's types, decoded by the `gguf` library, with the changes of llama.cpp's converter undone."""

from __future__ import annotations

from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.gguf import quick_blocks
from modelkin_indexer.sources.gguf.names import Restored
from modelkin_indexer.sources.stored.decoded import Bytes, Plain, Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, fill

MAX_HEAD = 64 << 20  # decoded bytes of one head's rows: those of the largest models have 16 MB (128 rows of 32,768 numbers)
# What a stored bfloat16 gain plus 1 may be off by after 1 is taken away again: half a step of float32 near 2.
SHIFT_ERROR = 2.0**-23


@cache
def is_decoded(kind: GGMLQuantizationType) -> bool:
    """Whether the library has a decoder for a type."""
    try:
        with np.errstate(all="ignore"):
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def stored_bytes(kind: GGMLQuantizationType, numbers: int) -> int:
    """Bytes of so many numbers of a type."""
    block, size = GGML_QUANT_SIZES[kind]
    return numbers // block * size


def shown(descriptor: int, path: Path, kind: GGMLQuantizationType, restored: Restored, shape: tuple[int, ...], start: int) -> Presented:
    """A tensor that begins at byte `start`, as it was published. Raises DamagedFile."""
    changed = restored.less_one or restored.log
    dtype = kind.name if kind.name in BITS and not changed else "F32"
    shape = _published_shape(restored.name, shape)
    info = TensorInfo(restored.name, dtype, shape, prod(shape) * BITS[dtype] // 8)
    heads = restored.heads if restored.heads and shape[0] % (2 * restored.heads) == 0 else 0
    if kind.name in BITS and not changed and not heads:
        return Presented(info, Plain(descriptor, path, restored.name, start))
    numbers = prod(shape) // heads if heads else GGML_QUANT_SIZES[kind][0]
    if numbers * 4 > MAX_HEAD:
        raise DamagedFile(f"has {heads} heads of {numbers:,} numbers each", path=path, tensor=restored.name, remedy=FETCH_AGAIN)
    return Presented(info, _Blocks(descriptor, path, kind, restored, start, dtype, numbers, shape[0] // heads if heads else 0))


def _published_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Vectors of state-space layers are stored with a second axis: [n, 1], or groups of a gain."""
    if name.endswith((".A_log", ".D")) and shape[-1] == 1:
        return shape[:-1] or shape
    return (prod(shape),) if name.endswith("mixer.norm.weight") else shape


class _Blocks(Struct, frozen=True):
    """Decodes multiples of `numbers`, those of one block; where `head_rows`, a block is the rows of one head, put back
    into order."""

    descriptor: int
    path: Path
    kind: GGMLQuantizationType
    restored: Restored
    start: int
    dtype: str
    numbers: int
    head_rows: int

    @property
    def block_bytes(self) -> int:
        return self.numbers * BITS[self.dtype] // 8

    def decode(self, start: int, out: Bytes) -> int:
        count = out.nbytes * 8 // BITS[self.dtype]
        stored = np.empty(stored_bytes(self.kind, count), np.uint8)
        first = self.start + stored_bytes(self.kind, start * 8 // BITS[self.dtype])
        fill(self.descriptor, first, stored.data, self.path, self.restored.name)
        decoder = quick_blocks.DECODERS.get(self.kind.name)
        if decoder is not None and not (self.head_rows or self.restored.less_one or self.restored.log):
            with np.errstate(all="ignore"):
                decoder(stored, out.view(np.float32))
        else:
            out[:] = self._ordered(self._values(stored))
        return stored.nbytes

    def _values(self, stored: Bytes) -> npt.NDArray[Any]:
        """The published numbers, as floats where they are not stored as presented."""
        if self.dtype == self.kind.name and not (self.restored.less_one or self.restored.log):
            return stored.view(f"u{BITS[self.dtype] // 8}")
        with np.errstate(all="ignore"):
            values = _dequantized(stored, self.kind)
            if self.restored.less_one:
                return _without_one(values)
            return np.log(-values) if self.restored.log else values

    def _ordered(self, values: npt.NDArray[Any]) -> Bytes:
        if self.head_rows:
            values = np.ascontiguousarray(values.reshape(-1, self.head_rows // 2, 2, self.numbers // self.head_rows).swapaxes(1, 2))
        return values.reshape(-1).view(np.uint8)


def _dequantized(stored: Bytes, kind: GGMLQuantizationType) -> npt.NDArray[np.float32]:
    decoder = quick_blocks.DECODERS.get(kind.name)
    if decoder is None:
        values: npt.NDArray[np.float32] = dequantize(stored.reshape(1, -1), kind).reshape(-1)
        return values
    block, size = GGML_QUANT_SIZES[kind]
    found = np.empty(stored.size // size * block, np.float32)
    decoder(stored, found)
    return found


def _without_one(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Gains less 1, rounded to the bfloat16 numbers that they were where all of them fit some."""
    less = values - np.float32(1)
    rounded = less.astype(ml_dtypes.bfloat16).astype(np.float32)
    return rounded if bool((np.abs(rounded - less) <= SHIFT_ERROR).all()) else less
