"""Outlines of protobuf files: all of a message except its bulk, which stays in the file.

Libraries for protobuf load a message whole, weights and all. Here the wire format alone is walked (protobuf.dev/programming-guides), and
each field that holds bulk is replaced by 16 bytes that tell where it lies. The format's library parses the rest, which is small.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, fill

MAX_OUTLINE = 64 << 20  # bytes; graphs of the largest public models take 20 MB, and a parser needs ten times as much memory
MAX_FIELDS = 3_000_000  # walked one by one, 3 microseconds each; a graph of 100,000 nodes has 1 million
MAX_DEPTH = 90  # messages in messages; parsers stop at 100
WINDOW = 1 << 16  # bytes read at once
POINTER = struct.Struct("<QQ")  # start and length of a field's bytes in the file
MAX_VARINT = 10
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
FIXED = {FIXED64: 8, FIXED32: 4}


class Bulk(Struct, frozen=True):
    """A field whose bytes stay in the file; its pointer is written as field `number`."""

    number: int


# The messages inside a message, by field number. What is not named is copied as it is.
Schema = Mapping[str, Mapping[int, "str | Bulk"]]


def outline(descriptor: int, path: Path, schema: Schema, message: str) -> bytes:
    """The outline of the `message` that is the whole file.

    Raises:
        DamagedFile: this is no such message.
        UnsupportedFormat: it is larger than any real one without its bulk.
    """
    size = os.fstat(descriptor).st_size
    return _Walker(descriptor, path, size, schema).message(message, 0, size, 0)


class _Walker:
    def __init__(self, descriptor: int, path: Path, size: int, schema: Schema) -> None:
        self._descriptor, self._path, self._size, self._schema = descriptor, path, size, schema
        self._window, self._window_start = b"", 0
        self._bytes = self._fields = 0

    def message(self, kind: str, start: int, stop: int, depth: int) -> bytes:
        """The outline of the message of this kind in bytes [start, stop)."""
        if depth > MAX_DEPTH:
            self._fail(f"is nested more than {MAX_DEPTH} messages deep", start)
        known, out, at = self._schema[kind], bytearray(), start
        while at < stop:
            self._count(1, 0)
            tag, value = self._varint(at, stop)
            number, wire = tag >> 3, tag & 7
            if not number:
                self._fail("has a field without a number", at)
            if wire != BYTES:
                end = self._scalar_end(wire, value, stop)
                out += self._copy(at, end)
            else:
                length, begin = self._varint(value, stop)
                end = begin + length
                if end > stop:
                    self._fail("has a field that is longer than its message", at)
                out += self._field(number, known.get(number), (at, begin, end), depth)
            at = end
        return bytes(out)

    def _field(self, number: int, known: str | Bulk | None, span: tuple[int, int, int], depth: int) -> bytes:
        """A field of bytes: its tag stands at span[0], its bytes are [span[1], span[2])."""
        at, begin, end = span
        if known is None:
            return self._copy(at, end)
        if isinstance(known, Bulk):
            return _encoded(known.number, POINTER.pack(begin, end - begin))
        return _encoded(number, self.message(known, begin, end, depth + 1))

    def _scalar_end(self, wire: int, start: int, stop: int) -> int:
        if wire == VARINT:
            return self._varint(start, stop)[1]
        if wire not in FIXED:
            self._fail(f"has a field of unknown kind {wire}", start)
        if start + FIXED[wire] > stop:
            self._fail("has a field that is longer than its message", start)
        return start + FIXED[wire]

    def _varint(self, start: int, stop: int) -> tuple[int, int]:
        """The number at byte `start`, and where the next byte after it is."""
        value, at, byte = 0, start, 0x80
        while byte >= 0x80:
            if at >= stop or at == start + MAX_VARINT:
                self._fail(f"has a number that does not end within {MAX_VARINT} bytes", start)
            byte = self._byte(at)
            value |= (byte & 0x7F) << 7 * (at - start)
            at += 1
        return value & 0xFFFFFFFFFFFFFFFF, at

    def _byte(self, at: int) -> int:
        inside = at - self._window_start
        if not 0 <= inside < len(self._window):
            self._window, self._window_start, inside = self._read(at, min(WINDOW, self._size - at)), at, 0
        return self._window[inside]

    def _copy(self, start: int, stop: int) -> bytes:
        self._count(0, stop - start)
        inside = start - self._window_start
        if inside >= 0 and inside + stop - start <= len(self._window):
            return self._window[inside : inside + stop - start]
        return self._read(start, stop - start)

    def _read(self, start: int, length: int) -> bytes:
        data = bytearray(length)
        fill(self._descriptor, start, memoryview(data), self._path)
        return bytes(data)

    def _count(self, fields: int, length: int) -> None:
        self._fields += fields
        self._bytes += length
        if self._fields > MAX_FIELDS or self._bytes > MAX_OUTLINE:
            problem = f"has more than {MAX_OUTLINE:,} bytes or {MAX_FIELDS:,} fields beside its weights"
            raise UnsupportedFormat(problem, path=self._path, remedy="Export the model with its weights as raw data.")

    def _fail(self, problem: str, at: int) -> NoReturn:
        raise DamagedFile(f"{problem}, at byte {at:,}", path=self._path, remedy=FETCH_AGAIN)


def _encoded(number: int, content: bytes) -> bytes:
    """A field of bytes on the wire."""
    return _number(number << 3 | BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
