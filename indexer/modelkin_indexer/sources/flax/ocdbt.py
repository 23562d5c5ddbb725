"""OCDBT databases of tensorstore, which hold an Orbax checkpoint's arrays: manifest, newest version, its B+tree, where each value lies.

    manifest.ocdbt    d/1f2e...    ocdbt.process_0/d/9a8b...

https://google.github.io/tensorstore/kvstore/ocdbt/index.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import path as os_path
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.flax.compressed import Lies, inflated
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_small

MANIFEST, MANIFEST_MARK, NODE_MARK = "manifest.ocdbt", b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde"
MAX_NODE = 32_000_000  # bytes of a node, packed or not: with values of 1 KB inside, of 30,000 arrays
MAX_NODES = 20_000  # of one tree, and the bytes of all of them, which bound the work that a file can ask for
MAX_BYTES = 256_000_000
MAX_KEYS = 2_000_000
MAX_PATH = 4096
MAX_PARTS = 8  # folders of a data file's path
HEADER, FOOTER = 12, 4  # mark and length; checksum
KINDS = {0: "", 1: "zstd"}
SAVE_AGAIN = "Restore it with Orbax and save the parameters as safetensors."


class _File(Struct, frozen=True):
    """A data file: its path from the database's folder, and what of that its own children begin with."""

    path: str
    base: str


class _Cursor:
    """Numbers and bytes of an unpacked manifest or node, one after the other."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                break
        else:
            self.fail("has a number that is too long")
        return value

    def varints(self, count: int) -> list[int]:
        self.room(count)
        return [self.varint() for _ in range(count)]

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            self.fail("ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def room(self, count: int) -> None:
        """Each of so many things takes a byte at least."""
        if count > len(self._data) - self._at:
            self.fail(f"claims {count:,} things")

    def texts(self, count: int, prefixes: Sequence[int], suffixes: Sequence[int], most: int) -> list[bytes]:
        """Texts of which each begins with some of the one before."""
        found, before = [], b""
        for prefix, suffix in zip(prefixes, suffixes, strict=True):
            if prefix > len(before) or prefix + suffix > most:
                self.fail("has a text that cannot be")
            before = before[:prefix] + self.take(suffix)
            found.append(before)
        return found

    def fail(self, problem: str) -> NoReturn:
        raise DamagedFile(f"{problem}, as an OCDBT database", path=self._path, remedy=FETCH_AGAIN)


class Database:
    """The newest version of a database: where the value of each key lies. `files` hold them, `header_bytes` were read to find them."""

    def __init__(self, manifest: Path) -> None:
        """Raises SourceError."""
        self._manifest, self._root = manifest, manifest.parent
        self._nodes = self.header_bytes = 0
        self.values: dict[str, Lies] = {}
        self.files: set[Path] = set()
        cursor = self._opened(bytes(read_small(manifest, MAX_NODE)), MANIFEST_MARK, manifest)
        cursor.take(16)
        if cursor.varint():
            raise UnsupportedFormat("is a database with numbered manifests", path=manifest, remedy=SAVE_AGAIN)
        cursor.varints(2)
        cursor.take(1)
        if cursor.varint():
            cursor.take(4)
        files = self._files(cursor, "")
        count = cursor.varint()
        cursor.varints(count)
        heights = cursor.take(count)
        where = [cursor.varints(count) for _ in range(3)]
        if not count:
            cursor.fail("holds no version")
        if length := where[2][-1]:
            self._walk(self._file(cursor, files, where[0][-1]), where[1][-1], length, heights[-1], b"")

    def _walk(self, file: _File, start: int, length: int, height: int, prefix: bytes) -> None:
        """All values below a node."""
        self._nodes += 1
        self.header_bytes += length
        path = self._path(file.path)
        self.files.add(path)
        if self._nodes > MAX_NODES or length > MAX_NODE or self.header_bytes > MAX_BYTES:
            raise UnsupportedFormat("is too large a tree of names", path=self._manifest, remedy=SAVE_AGAIN)
        cursor = self._opened(Lies(path, start, length).read(), NODE_MARK, path)
        if cursor.take(1)[0] != height:
            cursor.fail("has a node of another height")
        files = self._files(cursor, file.base)
        count = cursor.varint()
        prefixes = [0, *cursor.varints(max(0, count - 1))] if count else []
        suffixes = cursor.varints(count)
        if height:
            common = cursor.varints(count)
            keys = cursor.texts(count, prefixes, suffixes, MAX_PATH)
            numbers, starts, lengths = (cursor.varints(count) for _ in range(3))
            for key, shared, number, begin, size in zip(keys, common, numbers, starts, lengths, strict=True):
                if shared > len(key):
                    cursor.fail("has a text that cannot be")
                self._walk(self._file(cursor, files, number), begin, size, height - 1, prefix + key[:shared])
            return
        keys = cursor.texts(count, prefixes, suffixes, MAX_PATH)
        for key, lies in zip(keys, self._leaf(cursor, files, count), strict=True):
            name = (prefix + key).decode("utf-8", "replace")
            if name in self.values or len(self.values) >= MAX_KEYS:
                cursor.fail(f"has the key {name[:100]!r} twice, or too many keys")
            self.values[name] = lies

    def _leaf(self, cursor: _Cursor, files: Sequence[_File], count: int) -> Iterator[Lies]:
        lengths, kinds = cursor.varints(count), cursor.varints(count)
        outside = sum(kind == 1 for kind in kinds)
        if any(kind > 1 for kind in kinds):
            cursor.fail("has a value of an unknown kind")
        numbers, starts = iter(cursor.varints(outside)), iter(cursor.varints(outside))
        for length, kind in zip(lengths, kinds, strict=True):
            if kind:
                path = self._path(self._file(cursor, files, next(numbers)).path)
                self.files.add(path)
                yield Lies(path, next(starts), length)
            else:
                yield Lies(self._manifest, 0, length, cursor.take(length))

    def _files(self, cursor: _Cursor, before: str) -> list[_File]:
        """A table of data files; `before` is what the paths of a node's file begin with."""
        count = cursor.varint()
        prefixes = [0, *cursor.varints(max(0, count - 1))] if count else []
        suffixes, bases = cursor.varints(count), cursor.varints(count)
        found = []
        for raw, base in zip(cursor.texts(count, prefixes, suffixes, MAX_PATH), bases, strict=True):
            path = raw.decode("utf-8", "replace")
            if base > len(raw) or len(before) + len(raw) > MAX_PATH:
                cursor.fail("has a path that cannot be")
            found.append(_File(before + path, before + raw[:base].decode("utf-8", "replace")))
        return found

    def _file(self, cursor: _Cursor, files: Sequence[_File], number: int) -> _File:
        return files[number] if number < len(files) else cursor.fail("has a value in a file that it does not name")

    def _path(self, name: str) -> Path:
        """A data file below the database's folder. Raises UnsupportedFormat of any other."""
        parts = name.split("/")
        plain = len(parts) <= MAX_PARTS and not any(part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts)
        path = self._root / name if plain else self._root
        if not plain or not Path(os_path.realpath(path.parent)).is_relative_to(os_path.realpath(self._root)):
            remedy = "Do not trust this checkpoint; get it from its publisher."
            raise UnsupportedFormat(f"leads to another folder ({name[:100]!r})", path=self._manifest, remedy=remedy)
        return path

    def _opened(self, data: bytes, mark: bytes, path: Path) -> _Cursor:
        """The unpacked inside of a manifest or node."""
        if path == self._manifest:
            self.header_bytes += len(data)
        if len(data) < HEADER + FOOTER + 2 or data[:4] != mark or int.from_bytes(data[4:HEADER], "little") != len(data):
            raise DamagedFile("is no sound part of an OCDBT database", path=path, remedy=FETCH_AGAIN)
        version, kind = data[HEADER], data[HEADER + 1]
        if version or kind not in KINDS:
            raise UnsupportedFormat(f"is an OCDBT database of another version ({version}, {kind})", path=path, remedy=SAVE_AGAIN)
        body = data[HEADER + 2 : -FOOTER]
        return _Cursor(inflated(body, KINDS[kind], MAX_NODE, path), path)
