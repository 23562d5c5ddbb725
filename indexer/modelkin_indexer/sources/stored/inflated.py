"""Deflated members of a zip archive, decompressed as a stream: in order this costs what it must, going back starts again."""

from __future__ import annotations

import threading
import zlib
from pathlib import Path

import numpy as np
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.sources.stored.decoded import Bytes
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact
from modelkin_indexer.sources.stored.zip_files import Member

INPUT_BYTES = 65_536  # compressed bytes fed at once
SKIPPED_BYTES = 1 << 20  # decompressed bytes stepped over at once


class Inflating:
    """One member, at some position of its decompressed bytes. Threads take turns."""

    def __init__(self, descriptor: int, path: Path, tensor: str, member: Member) -> None:
        self._descriptor, self._path, self._tensor, self._member = descriptor, path, tensor, member
        self._lock = threading.Lock()
        self._begin()

    def decode(self, start: int, out: Bytes) -> int:
        """Fill `out` with decompressed bytes from `start` on; the number of compressed bytes that were read for it.

        Raises:
            DamagedFile: the stream is damaged or shorter than its directory says.
        """
        with self._lock:
            if start < self._at:
                self._begin()
            before = self._read
            while self._at < start:
                self._next(min(SKIPPED_BYTES, start - self._at))
            done = 0
            while done < out.nbytes:
                piece = self._next(out.nbytes - done)
                out[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
                done += len(piece)
            return self._read - before

    def _begin(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._left = b""
        self._at = self._read = self._checksum = 0

    def _next(self, limit: int) -> bytes:
        """The next 1 to `limit` decompressed bytes."""
        while True:
            if not self._left:
                count = min(INPUT_BYTES, self._member.stored - self._read)
                self._left = bytes(read_exact(self._descriptor, self._member.start + self._read, count, self._path))
                self._read += count
            ended = not self._left
            try:
                piece = self._stream.decompress(self._left, limit)
            except zlib.error as error:
                raise self._damaged(str(error)) from error
            self._left = self._stream.unconsumed_tail
            if piece:
                self._count(piece)
                return piece
            if ended or self._stream.eof:
                raise self._damaged(f"it ends at byte {self._at:,} of {self._member.size:,}")

    def _count(self, piece: bytes) -> None:
        """Every byte passes here in order, so the last one completes the checksum."""
        self._at += len(piece)
        self._checksum = zlib.crc32(piece, self._checksum)
        if self._at == self._member.size and self._checksum != self._member.checksum:
            raise self._damaged("its checksum is another")

    def _damaged(self, problem: str) -> DamagedFile:
        return DamagedFile(f"cannot be decompressed ({problem})", path=self._path, tensor=self._tensor, remedy=FETCH_AGAIN)


class Inflated(Struct, frozen=True):
    """Decodes the bytes of a member from byte `skipped` on."""

    member: Inflating
    skipped: int
    block_bytes: int

    def decode(self, start: int, out: Bytes) -> int:
        return self.member.decode(self.skipped + start, out)
