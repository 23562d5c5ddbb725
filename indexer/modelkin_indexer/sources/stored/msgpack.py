"""msgpack files that a stranger wrote, walked over by position: long texts and bytes stay where they are.

https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

MAX_DEPTH = 64  # containers in containers; modules of real models reach 20
MAX_ITEMS = 1_000_000  # values of one file: the largest public models have 100,000; so many take some seconds
MAX_TEXT = 4096  # bytes of a text that is read; longer ones are no names
WINDOW = 65_536
# First byte -> bytes of the length behind it.
BINARY, TEXT, ARRAY, MAP = {0xC4: 1, 0xC5: 2, 0xC6: 4}, {0xD9: 1, 0xDA: 2, 0xDB: 4}, {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}
EXTENDED, FIXED = {0xC7: 1, 0xC8: 2, 0xC9: 4}, {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
NUMBERS = {
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class Raw(Struct, frozen=True):
    """Bytes [start, start + length) of the file; `kind` is the number of an extension type, None of plain bytes and long texts."""

    start: int
    length: int
    kind: int | None = None


class Walker:
    """Reads values one after the other."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self._descriptor, self._size, self._path = descriptor, size, path
        self._window, self._first, self._items = b"", 0, 0
        self.at = 0
        self.header_bytes = 0

    def value(self, depth: int = 0) -> Any:
        """The value at the walker's position, which is left behind it. Raises DamagedFile."""
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            self.fail("holds values nested too deeply, or too many")
        first = self._take(1)[0]
        if first < 0x80 or first >= 0xE0:
            return first if first < 0x80 else first - 256
        if first in CONSTANTS:
            return CONSTANTS[first]
        if first in NUMBERS:
            form = NUMBERS[first]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        if 0xA0 <= first < 0xC0 or first in TEXT:
            return self._text(first - 0xA0 if first < 0xC0 else self._length(TEXT[first]))
        if first in BINARY:
            return self._raw(self._length(BINARY[first]), None)
        if first in EXTENDED or first in FIXED:
            length = FIXED.get(first) or self._length(EXTENDED[first])
            return self._raw(length, self._take(1)[0])
        if 0x90 <= first < 0xA0 or first in ARRAY:
            return self._array(first - 0x90 if first < 0xA0 else self._length(ARRAY[first]), depth)
        if first >= 0x90 and first not in MAP:
            self.fail(f"has the unknown mark {first:#x}")
        return self._map(first - 0x80 if first < 0x90 else self._length(MAP[first]), depth)

    def inside(self, raw: Raw) -> Walker:
        """A walker over the bytes of an extension, which are msgpack again."""
        walker = Walker(self._descriptor, raw.start + raw.length, self._path)
        walker.at = raw.start
        return walker

    def fail(self, problem: str) -> NoReturn:
        """Raises DamagedFile."""
        raise DamagedFile(f"{problem}, at byte {self.at:,}", path=self._path, remedy=FETCH_AGAIN)

    def _array(self, count: int, depth: int) -> list[Any]:
        self._room(count)
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        self._room(2 * count)
        found: dict[Any, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int, Raw)) or key in found:
                self.fail("has a key twice, or one that is no name")
            found[key] = self.value(depth + 1)
        return found

    def _room(self, count: int) -> None:
        if count > self._size - self.at:
            self.fail(f"claims {count:,} values")

    def _text(self, length: int) -> str | Raw:
        if length > MAX_TEXT:
            return self._raw(length, None)
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            self.fail("has a text that is not UTF-8")

    def _raw(self, length: int, kind: int | None) -> Raw:
        if length > self._size - self.at:
            self.fail(f"ends {length - self._size + self.at:,} bytes too early")
        self.at += length
        return Raw(self.at - length, length, kind)

    def _length(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _take(self, count: int) -> bytes:
        begin = self.at - self._first
        if not 0 <= begin <= begin + count <= len(self._window):
            if self.at + count > self._size:
                self.fail("ends early")
            length = min(max(WINDOW // 64, count), self._size - self.at)
            self._window, self._first = bytes(read_exact(self._descriptor, self.at, length, self._path)), self.at
            self.header_bytes += length
            begin = 0
        self.at += count
        return self._window[begin : begin + count]
