"""What the header of a GGUF file says, believed only where it agrees with itself and with the file.

The format: magic `GGUF`, version, number of tensors, number of metadata entries; the entries (key, type, value); the tensors (name, sizes
from the innermost axis outwards, type, offset); then, aligned, the tensors' bytes.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

MAGIC = b"GGUF"
VERSIONS = (2, 3)
WINDOW = 1 << 20  # bytes of the header in memory at once
MAX_KEYS = 65_536  # real files have under 100
MAX_TENSORS = 500_000  # as in the other containers
MAX_NAME = 4096  # bytes of a key or a tensor's name
MAX_TEXT = 65_536  # bytes of a text that is kept; longer ones (chat templates) are stepped over
MAX_STRINGS = 10_000_000  # strings of all arrays: vocabularies and merges of the largest tokenizers have 1,000,000
MAX_NUMBERS = 4096  # numbers of an array that is kept: settings of each layer
MAX_AXES = 4  # the format's own limit
MAX_SIZE = 2**63 - 1
ALIGNMENT, DEFAULT_ALIGNMENT = "general.alignment", 32
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # value types, as struct has them


class Entry(Struct, frozen=True):
    """One tensor as the header describes it: shape from the outermost axis inwards, the number of its ggml type, its first byte.

    It may have no numbers.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    start: int


class Header(Struct, frozen=True):
    """`metadata` holds numbers, short texts and short arrays of numbers; of other arrays their lengths (an int under `key + "#"`)."""

    metadata: Mapping[str, Any]
    entries: tuple[Entry, ...]
    header_bytes: int


def read_header(descriptor: int, size: int, path: Path) -> Header:
    """The header of a file of `size` bytes. What the tensors' types mean is not checked here.

    Raises:
        DamagedFile: the header contradicts the format, itself or the file.
        UnsupportedFormat: a version, byte order or number of things that this version does not read.
    """
    cursor = _Cursor(descriptor, size, path)
    tensors, keys = _counts(cursor)
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text("key", MAX_NAME)
        if key in metadata or f"{key}#" in metadata:
            cursor.fail(f"has the key {key!r} twice")
        _value(cursor, key, metadata)
    alignment = metadata.get(ALIGNMENT, DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > WINDOW:
        cursor.fail(f"has the alignment {alignment!r}, which is no power of two")
    found = [_entry(cursor) for _ in range(tensors)]
    data = -(-cursor.at // alignment) * alignment
    return Header(metadata, _placed(found, data, alignment, cursor), cursor.at)


def _counts(cursor: _Cursor) -> tuple[int, int]:
    if cursor.take(4) != MAGIC:
        cursor.fail("does not begin with GGUF")
    version = cursor.number("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        cursor.refuse("is big-endian" if swapped else f"is of version {version}")
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        cursor.refuse(f"claims {tensors:,} tensors and {keys:,} keys, more than {MAX_TENSORS:,} and {MAX_KEYS:,}")
    return tensors, keys


def _value(cursor: _Cursor, key: str, metadata: dict[str, Any]) -> None:
    kind = cursor.number("I")
    if kind in NUMBERS:
        metadata[key] = cursor.number(NUMBERS[kind])
    elif kind == STRING:
        length = cursor.number("Q")
        if length <= MAX_TEXT:
            metadata[key] = cursor.take(length).decode("utf-8", "replace")
        else:
            cursor.skip(length)
            metadata[f"{key}#"] = length
    elif kind == ARRAY:
        _array(cursor, key, metadata)
    else:
        cursor.fail(f"has the unknown type {kind} for key {key!r}")


def _array(cursor: _Cursor, key: str, metadata: dict[str, Any]) -> None:
    kind, count = cursor.number("I"), cursor.number("Q")
    metadata[f"{key}#"] = count
    if kind in NUMBERS:
        if count <= MAX_NUMBERS:
            metadata[key] = [cursor.number(NUMBERS[kind]) for _ in range(count)]
        else:
            cursor.skip(count * struct.calcsize(NUMBERS[kind]))
    elif kind == STRING:
        cursor.strings += count
        if cursor.strings > MAX_STRINGS:
            cursor.refuse(f"claims more than {MAX_STRINGS:,} texts in its arrays")
        for _ in range(count):
            cursor.skip(cursor.number("Q"))
    else:
        cursor.fail(f"has an array of the unknown type {kind} for key {key!r}")


def _entry(cursor: _Cursor) -> Entry:
    name = cursor.text("tensor's name", MAX_NAME)
    axes = cursor.number("I")
    if not 1 <= axes <= MAX_AXES:
        cursor.fail(f"gives it {axes} axes", name)
    shape = tuple(cursor.number("Q") for _ in range(axes))[::-1]
    if prod(shape) > MAX_SIZE // 8 or max(shape) > MAX_SIZE // 8:
        cursor.fail(f"gives it the impossible shape {shape}", name)
    return Entry(name, shape, cursor.number("I"), cursor.number("Q"))


def _placed(found: list[Entry], data: int, alignment: int, cursor: _Cursor) -> tuple[Entry, ...]:
    """The tensors with their offsets counted from the file's beginning."""
    seen: set[str] = set()
    for entry in found:
        if entry.name in seen:
            cursor.fail("has it twice", entry.name)
        seen.add(entry.name)
        if entry.start % alignment or data + entry.start > MAX_SIZE:
            cursor.fail(f"puts it at byte {entry.start:,}, which is not aligned to {alignment}", entry.name)
    return tuple(Entry(entry.name, entry.shape, entry.kind, data + entry.start) for entry in found)


class _Cursor:
    """Walks the header with one window of it in memory."""

    def __init__(self, descriptor: int, size: int, path: Path) -> None:
        self._descriptor, self._size, self._path = descriptor, size, path
        self._window, self._first = bytearray(), 0
        self.at = 0
        self.strings = 0

    def fail(self, problem: str, tensor: str | None = None) -> NoReturn:
        raise DamagedFile(f"its GGUF header {problem}", path=self._path, tensor=tensor, remedy=FETCH_AGAIN)

    def refuse(self, problem: str) -> NoReturn:
        remedy = "Convert the model with a current llama.cpp, or get another form of it."
        raise UnsupportedFormat(f"its GGUF header {problem}", path=self._path, remedy=remedy)

    def skip(self, count: int) -> None:
        if count > self._size - self.at:
            self.fail(f"goes on for {count:,} bytes at byte {self.at:,}, past the end of the file ({self._size:,} bytes)")
        self.at += count

    def take(self, count: int) -> bytes:
        """The next bytes, at most a window's."""
        begin = self.at - self._first
        if not 0 <= begin <= begin + count <= len(self._window):
            self._first = self.at
            self._window = read_exact(self._descriptor, self.at, min(WINDOW, max(self._size - self.at, 0)), self._path)
            begin = 0
        self.skip(count)
        return bytes(self._window[begin : begin + count])

    def number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]

    def text(self, what: str, limit: int) -> str:
        """Text of 1 to `limit` bytes."""
        length = self.number("Q")
        if not 1 <= length <= limit:
            self.fail(f"has a {what} of {length:,} bytes at byte {self.at:,}")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"has a {what} that is not UTF-8, before byte {self.at:,}")
