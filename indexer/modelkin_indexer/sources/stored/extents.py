"""Tensors that lie as plain numbers, or as whole numbers with scales, at known places of some files."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Presented
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, fill, open_regular
from modelkin_indexer.sources.stored.scales import Scales

Bytes = npt.NDArray[np.uint8]
DECODED = "F32"  # what whole numbers with scales are handed out as
DECODED_BYTES = 4
MAX_BYTES = 1 << 48  # more than any file has; keeps hostile shapes from costing memory


class Extent(Struct, frozen=True):
    """Bytes [start, start + length) of an open file, or of `held` where they are in memory already."""

    file: int
    start: int
    length: int
    held: bytes | None = None


class OpenFiles:
    """The files of one source, opened one after the other. Each is a regular file of the model's own folder."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.sizes: list[int] = []
        self._descriptors: list[int] = []

    def open(self, path: Path) -> int:
        """The number of a file, opened if it is new. Raises SourceError."""
        if path in self.paths:
            return self.paths.index(path)
        descriptor = open_regular(path)
        self.paths.append(path)
        self._descriptors.append(descriptor)
        self.sizes.append(os.fstat(descriptor).st_size)
        return len(self.paths) - 1

    def described(self) -> tuple[SourceFile, ...]:
        """Each file's name and size, as a source tells them."""
        return tuple(SourceFile(path.name, size) for path, size in zip(self.paths, self.sizes, strict=True))

    def descriptor(self, file: int) -> int:
        return self._descriptors[file]

    def fill(self, file: int, start: int, out: Bytes, tensor: str | None = None) -> None:
        """Fill `out` from byte `start` on. Raises DamagedFile if the file ends before."""
        fill(self._descriptors[file], start, out.data, self.paths[file], tensor)

    def extent(self, file: int, start: int, length: int, tensor: str) -> Extent:
        """An extent that lies in the file. Raises DamagedFile if it does not."""
        if start < 0 or length < 0 or start + length > self.sizes[file]:
            problem = f"bytes [{start:,}, {start + length:,}) are not within the {self.sizes[file]:,} of the file"
            raise DamagedFile(problem, path=self.paths[file], tensor=tensor, remedy=f"The file is cut short. {FETCH_AGAIN}")
        return Extent(file, start, length)

    def read(self, extent: Extent, tensor: str) -> bytes:
        """All bytes of an extent: for small ones."""
        if extent.held is not None:
            return extent.held[extent.start : extent.start + extent.length]
        out = np.empty(extent.length, np.uint8)
        self.fill(extent.file, extent.start, out, tensor)
        return out.tobytes()

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


class StoredTensor(Struct, frozen=True):
    """One tensor: its parts one after the other are its bytes in C order. `scales` turn stored whole numbers into weights.

    `transposed`: what is stored is the transpose of the matrix `shape`. Rows that are wider by their scales' shape are filled up.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[Extent, ...]
    scales: Scales | None = None
    transposed: bool = False

    def presented(self, files: OpenFiles) -> Presented:
        """What readers see of it. Raises SourceError if its bytes are not as many as its shape says."""
        where = files.paths[self.parts[0].file]
        if 0 in self.shape:
            raise UnsupportedFormat(f"has no values (shape {self.shape})", path=where, tensor=self.name, remedy="Export without it.")
        bits = BITS[self.dtype] if self.scales is None else self.scales.bits
        numbers = prod(self.shape if self.scales is None else self.scales.shape)
        wanted, there = -(-numbers * bits // 8), sum(part.length for part in self.parts)
        if wanted != there or wanted > MAX_BYTES:
            problem = f"has {there:,} bytes, but {wanted:,} by its shape {list(self.shape)} and type {self.dtype}"
            raise DamagedFile(problem, path=where, tensor=self.name, remedy=FETCH_AGAIN)
        dtype = self.dtype if self.scales is None else DECODED
        info = TensorInfo(self.name, dtype, self.shape, prod(self.shape) * BITS[dtype] // 8, self.transposed)
        stored = Parts(self.name, self.parts, files)
        if self.scales is None:
            return Presented(info, stored)
        scaled = Scaled(stored, self.scales)
        return Presented(info, scaled if numbers == prod(self.shape) else FilledUp(scaled, self.scales.shape[-1], self.shape[-1]))


class Parts(Struct, frozen=True):
    """Bytes stored as they are presented, in several parts."""

    tensor: str
    parts: tuple[Extent, ...]
    files: OpenFiles
    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        """See `Decoder`."""
        at = done = 0
        for part in self.parts:
            skip = max(0, start + done - at)
            count = min(part.length - skip, out.nbytes - done)
            if count > 0:
                self._take(part, skip, out[done : done + count])
                done += count
            at += part.length
        return done

    def _take(self, part: Extent, skip: int, out: Bytes) -> None:
        if part.held is None:
            self.files.fill(part.file, part.start + skip, out, self.tensor)
        else:
            start = part.start + skip
            out[:] = np.frombuffer(part.held[start : start + out.nbytes], np.uint8)


class FilledUp(Struct, frozen=True):
    """The first `columns` of rows of `width` numbers."""

    stored: Scaled
    width: int
    columns: int

    @property
    def block_bytes(self) -> int:
        return self.columns * DECODED_BYTES

    def decode(self, start: int, out: Bytes) -> int:
        """See `Decoder`."""
        first, rows = start // self.block_bytes, out.nbytes // self.block_bytes
        wide = np.empty(rows * self.width * DECODED_BYTES, np.uint8)
        count = self.stored.decode(first * self.width * DECODED_BYTES, wide)
        out.reshape(rows, -1)[:] = wide.reshape(rows, -1)[:, : self.block_bytes]
        return count


class Scaled(Struct, frozen=True):
    """Whole numbers presented as what they stand for."""

    stored: Parts
    scales: Scales
    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        """See `Decoder`."""
        first, last = start // DECODED_BYTES, -(-(start + out.nbytes) // DECODED_BYTES)
        count = 0
        for low, high in self.scales.chunks(first, last):
            begin, end = self.scales.bytes_of(low, high)
            raw = np.empty(end - begin, np.uint8)
            count += self.stored.decode(begin, raw)
            values = self.scales.decode(raw, low, high).view(np.uint8)
            offset = low * DECODED_BYTES - start
            skip, at = max(0, -offset), max(0, offset)
            some = values[skip : skip + out.nbytes - at]
            out[at : at + some.nbytes] = some
        return count
