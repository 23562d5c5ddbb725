"""Arrays that HDF5 keeps in chunks: rows decoded some at a time."""

from __future__ import annotations

import zlib
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.keras.messages import CHECKSUM, GZIP, SHUFFLE, Chunks
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

Bytes = npt.NDArray[np.uint8]


class Chunked(Struct, frozen=True):
    """Decodes an array of this dtype and shape in chunks (see `Decoder`)."""

    descriptor: int
    path: Path
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    chunks: Chunks

    @property
    def _width(self) -> int:
        return BITS[self.dtype] // 8

    @property
    def block_bytes(self) -> int:
        """Rows that share chunks."""
        return prod(self.shape[1:]) * self._width * self.chunks.shape[0]

    def decode(self, start: int, out: Bytes) -> int:
        """See `Decoder`."""
        count, low = 0, start // self.block_bytes * self.chunks.shape[0]
        rows = out.reshape(-1, *self.shape[1:], self._width)
        for first in range(0, len(rows), self.chunks.shape[0]):
            across = product(*(range(0, n, some) for n, some in zip(self.shape[1:], self.chunks.shape[1:], strict=True)))
            for rest in across:
                data, read = self._chunk((low + first, *rest))
                at = (first, *rest)
                ends = [min(n, begin + some) for n, begin, some in zip(rows.shape[:-1], at, self.chunks.shape, strict=True)]
                part = tuple(slice(begin, end) for begin, end in zip(at, ends, strict=True))
                rows[part] = data[tuple(slice(0, end - begin) for begin, end in zip(at, ends, strict=True))]
                count += read
        return count

    def _chunk(self, at: tuple[int, ...]) -> tuple[Bytes, int]:
        """The bytes of a chunk [axes, width of a number], and how many were read."""
        address, size = self.chunks.where[at] if at in self.chunks.where else self._fail("lacks a chunk")
        raw = bytes(read_exact(self.descriptor, self.chunks.start + address, size, self.path))
        wanted = prod(self.chunks.shape) * self._width
        for number in reversed(self.chunks.filters):
            if number == GZIP:
                raw = self._inflated(raw, wanted + 4)
            elif number == CHECKSUM:
                raw = raw[:-4]
            elif number == SHUFFLE and len(raw) == wanted:
                raw = np.frombuffer(raw, np.uint8).reshape(self._width, -1).T.tobytes()
        if len(raw) != wanted:
            self._fail(f"has a chunk of {len(raw):,} bytes, not {wanted:,}")
        return np.frombuffer(raw, np.uint8).reshape(*self.chunks.shape, self._width), size

    def _inflated(self, raw: bytes, limit: int) -> bytes:
        try:
            return zlib.decompressobj().decompress(raw, limit)
        except zlib.error as error:
            return self._fail(f"has a chunk that cannot be inflated ({error})")

    def _fail(self, problem: str) -> bytes:
        raise DamagedFile(problem, path=self.path, tensor=self.tensor, remedy=FETCH_AGAIN)
