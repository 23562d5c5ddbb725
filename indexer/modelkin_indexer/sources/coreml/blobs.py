"""CoreML's file of weights: blobs, each behind a description of 64 bytes.

https://github.com/apple/coremltools/blob/main/mlmodel/src/MILBlob/Blob/StorageFormat.hpp
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import NoReturn

import ml_dtypes
import numpy as np
import numpy.typing as npt

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.coreml.program import Value, small
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN
from modelkin_indexer.sources.stored.scales import PACKED, SCALED, Scales, fits

Floats = npt.NDArray[np.float32]
SENTINEL, DESCRIPTION, VERSION = 0xDEADBEEF, 64, 2
MAX_SMALL = 1 << 27  # bytes of scales, which are held in memory
NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


class Blobs:
    """The file beside a program. It is opened when the first blob is asked for."""

    def __init__(self, files: OpenFiles, path: Path) -> None:
        self._files, self._path = files, path
        self._number = -1

    def extent(self, value: Value) -> Extent:
        """Where the numbers of a value lie. Raises SourceError."""
        if self._number < 0:
            self._number = self._files.open(self._path)
            if self._unsigned(4, 4) != VERSION:
                self.fail(f"is of version {self._unsigned(4, 4)}")
        blob = value.blob if value.blob is not None else -1
        if blob < DESCRIPTION or self._unsigned(blob, 4) != SENTINEL:
            self.fail(f"has no blob at byte {blob:,}")
        size, start = self._unsigned(blob + 8, 8), self._unsigned(blob + 16, 8)
        bits = BITS.get(value.dtype) or (PACKED[value.dtype][0] if value.dtype in PACKED else 0)
        if not all(0 <= n < 1 << 40 for n in value.shape) or len(value.shape) > 16:
            self.fail(f"has a blob of the impossible shape {list(value.shape)[:9]}")
        if bits and size != -(-prod(value.shape) * bits // 8):
            self.fail(f"has {size:,} bytes at byte {start:,}, but other ones by the shape {list(value.shape)} and type {value.dtype}")
        return self._files.extent(self._number, start, size, f"blob {blob}")

    def scales(self, value: Value, scale: Value, zero: Value | None, axis: Value | None, name: str) -> Scales:
        """What turns stored numbers into weights. Raises DamagedFile if it does not fit."""
        found = [self.numbers(one, name) for one in (scale, zero) if one is not None]
        wide = len(value.shape)
        if axis is not None:  # the older form: a vector along an axis
            kind, data = small(axis)
            at = int.from_bytes(data[:1], "little") if kind == "ints" and len(data) in (1, 4) else 0
            found = [one.reshape(*[-1 if place == at else 1 for place in range(wide)]) if one.size > 1 else one for one in found]
        shapes = [one.reshape((1,) * max(0, wide - one.ndim) + one.shape) for one in found]
        if not all(fits(value.shape, one.shape) and np.isfinite(one).all() for one in shapes):
            self.fail(f"has scales of {name[:200]!r} that do not fit")
        if len([n for n, whole in zip(shapes[0].shape, value.shape, strict=True) if 1 < n < whole and whole % n]):
            self.fail(f"has groups of {name[:200]!r} that are not equal")
        zeros = shapes[1] if len(shapes) > 1 else np.zeros((1,) * wide, np.float32)
        if zeros.shape != shapes[0].shape and zeros.size > 1:
            shapes[0], zeros = (np.array(one) for one in np.broadcast_arrays(shapes[0], zeros))
        return Scales(value.dtype, value.shape, shapes[0], zeros)

    def is_zero(self, value: Value) -> bool:
        """Whether a small value is nothing but zeros."""
        extent = self.extent(value)
        return extent.length <= MAX_SMALL and not any(self._files.read(extent, "bias"))

    def numbers(self, value: Value, name: str) -> Floats:
        """The numbers of a small value. Raises DamagedFile."""
        if value.blob is None:
            kind, data = small(value)
            dtype = "F32" if kind == "floats" else value.dtype
        else:
            extent = self.extent(value)
            if extent.length > MAX_SMALL:
                self.fail(f"has {extent.length:,} bytes of scales")
            dtype, data = value.dtype, self._files.read(extent, name)
        count = prod(value.shape)
        if dtype in NUMPY and len(data) == count * BITS[dtype] // 8:
            return np.frombuffer(data, NUMPY[dtype]).astype(np.float32).reshape(value.shape)
        bits = PACKED[dtype][0] if dtype in PACKED else BITS.get(dtype, 0)
        if dtype not in SCALED or len(data) != -(-count * bits // 8):
            self.fail(f"has scales of {name[:200]!r} of another type or size")
        one = np.ones((1,), np.float32)
        return np.asarray(
            Scales(dtype, (max(1, count),), one, 0 * one).decode(np.frombuffer(data, np.uint8), 0, count).reshape(value.shape)
        )

    def _unsigned(self, start: int, width: int) -> int:
        out = np.empty(width, np.uint8)
        self._files.fill(self._number, self._files.extent(self._number, start, width, "description").start, out)
        return int.from_bytes(out.tobytes(), "little")

    def fail(self, problem: str) -> NoReturn:
        """Raises DamagedFile."""
        raise DamagedFile(problem, path=self._path, remedy=FETCH_AGAIN)
