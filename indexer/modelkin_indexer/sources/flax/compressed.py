"""Bytes of checkpoints that lie packed in pieces: unpacked as streams, in bounded memory, each opened when some of it is asked for."""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.decoded import Bytes
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, open_regular, read_exact

INPUT_BYTES = 262_144  # packed bytes read at once
SKIPPED_BYTES = 1 << 20  # unpacked bytes stepped over at once
MOST_OPEN = 16  # streams that keep their place, each with what unpacking looks back on, and files that stay open
MAX_WINDOW = 1 << 23  # bytes that zstd may look back on: what its levels up to 19 use
ZSTD = "pip install 'modelkin[orbax]' brings the package zstandard, which unpacks it."


class Lies(Struct, frozen=True):
    """Bytes [start, start + length) of a file, or `held` where they were read already."""

    path: Path
    start: int
    length: int
    held: bytes | None = None

    def read(self, start: int = 0, count: int | None = None) -> bytes:
        """Some of them. The file is open only meanwhile: a checkpoint may have thousands. Raises SourceError."""
        count = self.length - start if count is None else min(count, self.length - start)
        if self.held is not None:
            return self.held[start : start + count]
        descriptor = open_regular(self.path)
        try:
            return self.read_from(descriptor, start, count)
        finally:
            os.close(descriptor)

    def read_from(self, descriptor: int, start: int, count: int) -> bytes:
        """Some of them, of the file that is open. Raises DamagedFile."""
        size = os.fstat(descriptor).st_size
        if self.start + start + count > size:
            problem = f"has {size:,} bytes, and should have {self.start + self.length:,} or more"
            raise DamagedFile(problem, path=self.path, remedy=f"The file is cut short. {FETCH_AGAIN}")
        return bytes(read_exact(descriptor, self.start + start, count, self.path))


class _Stream(Protocol):
    def read(self, count: int) -> bytes:
        """The next 1 to `count` unpacked bytes; none at the end. Raises ValueError."""
        ...


class _Feed:
    """Packed bytes as a file that is read once from its beginning."""

    def __init__(self, lies: Lies) -> None:
        self._lies, self.at = lies, 0

    def read(self, count: int = -1) -> bytes:
        data = self._lies.read(self.at, INPUT_BYTES if count < 0 else min(count, INPUT_BYTES))
        self.at += len(data)
        return data


class _Zlib:
    """A stream of zlib's, with gzip's header or its own."""

    def __init__(self, feed: _Feed) -> None:
        self._feed, self._stream, self._left = feed, zlib.decompressobj(zlib.MAX_WBITS | 32), b""

    def read(self, count: int) -> bytes:
        while not self._stream.eof:
            self._left = self._left or self._feed.read(INPUT_BYTES)
            try:
                piece = self._stream.decompress(self._left, count)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            ended, self._left = not self._left, self._stream.unconsumed_tail
            if piece or ended:
                return piece
        return b""


class _Zstd:
    def __init__(self, feed: Any, path: Path) -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UnsupportedFormat("is packed with zstd, which modelkin reads with an extra", path=path, remedy=ZSTD) from error
        self._error = zstandard.ZstdError
        self._stream = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(feed, read_size=INPUT_BYTES)

    def read(self, count: int) -> bytes:
        try:
            return bytes(self._stream.read(count))
        except self._error as error:
            raise ValueError(str(error)) from error


def _stream(kind: str, feed: _Feed, path: Path) -> _Stream:
    """`kind`: zstd, zlib or gzip; "" for bytes that are not packed."""
    if kind == "zstd":
        return _Zstd(feed, path)
    return _Zlib(feed) if kind else feed


def inflated(data: bytes, kind: str, limit: int, path: Path) -> bytes:
    """All of some packed bytes, at most `limit`. Raises SourceError."""
    if not kind:
        return data
    stream, found = _stream(kind, _Feed(Lies(path, 0, len(data), data)), path), bytearray()
    try:
        while piece := stream.read(SKIPPED_BYTES):
            found += piece
            if len(found) > limit:
                raise UnsupportedFormat(f"unpacks to more than {limit:,} bytes of names", path=path, remedy=FETCH_AGAIN)
    except ValueError as error:
        raise DamagedFile(f"cannot be unpacked ({error})", path=path, remedy=FETCH_AGAIN) from error
    return bytes(found)


class _Files:
    """The files that were read last, kept open. Each thread has one to itself while it reads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, int] = OrderedDict()
        self._lock, self._closed = threading.Lock(), False

    def read(self, lies: Lies, start: int, count: int) -> bytes:
        """As `Lies.read`. Raises SourceError, and ValueError after `close`."""
        if lies.held is not None:
            return lies.read(start, count)
        with self._lock:
            if self._closed:
                raise ValueError("the source is closed")
            descriptor = self._kept.pop(lies.path, None)
        descriptor = open_regular(lies.path) if descriptor is None else descriptor
        try:
            return lies.read_from(descriptor, start, min(count, lies.length - start))
        finally:
            self._keep(lies.path, descriptor)

    def _keep(self, path: Path, descriptor: int) -> None:
        with self._lock:
            closing = descriptor if self._closed or path in self._kept else None
            if closing is None:
                self._kept[path] = descriptor
                closing = self._kept.popitem(last=False)[1] if len(self._kept) > MOST_OPEN else None
        if closing is not None:
            os.close(closing)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, OrderedDict()
        for descriptor in kept.values():
            os.close(descriptor)


class Streams:
    """The pieces of one checkpoint. Packed ones asked for last keep their place; others begin again. Threads take turns at these."""

    def __init__(self) -> None:
        self._open: OrderedDict[Lies, tuple[_Stream, _Feed, int]] = OrderedDict()
        self._lock, self._files = threading.Lock(), _Files()

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def decode(self, lies: Lies, kind: str, start: int, out: Bytes, tensor: str, size: int) -> int:
        """Fill `out` with unpacked bytes of a piece from `start` on; how many packed ones were read for it.

        Raises:
            SourceError: the file shrank or cannot be unpacked, or the piece does not end at `size`, where packers check what they made.
        """
        if not kind:
            out[:] = np.frombuffer(self._files.read(lies, start, out.nbytes), np.uint8)
            return out.nbytes
        with self._lock:
            kept = self._open.pop(lies) if lies in self._open else None
            stream, feed, at = kept if kept is not None and kept[2] <= start else self._begun(lies, kind)
            before, done = feed.at, 0
            while at < start + out.nbytes:
                wanted = min(SKIPPED_BYTES, start - at) if at < start else out.nbytes - done
                piece = self._next(stream, wanted, lies, tensor)
                if at >= start:
                    out[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
                    done += len(piece)
                at += len(piece)
            if at == size and self._next(stream, 1, lies, ""):
                raise DamagedFile(f"has a piece of more than {size:,} bytes", path=lies.path, tensor=tensor[:200], remedy=FETCH_AGAIN)
            self._open[lies] = stream, feed, at
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return feed.at - before

    def _begun(self, lies: Lies, kind: str) -> tuple[_Stream, _Feed, int]:
        feed = _Feed(lies)
        return _stream(kind, feed, lies.path), feed, 0

    def _next(self, stream: _Stream, count: int, lies: Lies, tensor: str) -> bytes:
        try:
            piece = stream.read(count)
        except ValueError as error:
            raise DamagedFile(f"cannot be unpacked ({error})", path=lies.path, tensor=tensor[:200], remedy=FETCH_AGAIN) from error
        if not piece and tensor:
            raise DamagedFile("has a piece that ends early", path=lies.path, tensor=tensor[:200], remedy=FETCH_AGAIN)
        return piece
