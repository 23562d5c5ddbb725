"""The index of a TensorFlow checkpoint: a table of LevelDB's, whose values are small protobuf messages. Nothing in it is packed.

https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN

MARK = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER, TRAILER = 48, 5  # bytes at the end of the file, and after each block: kind and checksum
MOST_ENTRIES = 1_000_000  # keys of one table
MAX_KEY = 4096
SAVE_AGAIN = "Load it with TensorFlow and save the weights as .weights.h5 or safetensors."


class Table:
    """The keys and values of a table that was read whole."""

    def __init__(self, data: bytes, path: Path) -> None:
        """Raises DamagedFile if it is none."""
        self._data, self._path = data, path
        if len(data) < FOOTER or data[-8:] != MARK:
            self._fail("does not end as a table of TensorFlow's")

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """All keys and values, in order. Raises SourceError."""
        footer = self._data[-FOOTER:-8]
        at = 0
        for _ in range(2):
            _, at = self._varint(footer, at)  # where the table's own notes lie
        start, at = self._varint(footer, at)
        length, _ = self._varint(footer, at)
        count, seen = 0, ""
        for _, handle in self._block(start, length):
            begin, at = self._varint(handle, 0)
            size, _ = self._varint(handle, at)
            for raw, value in self._block(begin, size):
                key = raw.decode("utf-8", "replace")
                count += 1
                if count > MOST_ENTRIES or (key <= seen and count > 1):
                    self._fail("has keys that are out of order, or too many")
                seen = key
                yield key, value

    def _block(self, start: int, length: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of a block: of each key only what differs from the one before is there."""
        if start + length + TRAILER > len(self._data) or length < 4:
            self._fail("has a block that is not there")
        if self._data[start + length]:
            raise UnsupportedFormat("has a packed index, which TensorFlow does not write", path=self._path, remedy=SAVE_AGAIN)
        block = self._data[start : start + length]
        restarts = int.from_bytes(block[-4:], "little")
        end = length - 4 - 4 * restarts
        if end < 0:
            self._fail("has a block whose places are not there")
        at, key = 0, b""
        while at < end:
            shared, at = self._varint(block, at)
            own, at = self._varint(block, at)
            size, at = self._varint(block, at)
            if shared > len(key) or shared + own > MAX_KEY or at + own + size > end:
                self._fail("has an entry that cannot be")
            key = key[:shared] + block[at : at + own]
            at += own
            yield key, block[at : at + size]
            at += size

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= len(data):
                break
            byte = data[at]
            value, at = value | (byte & 127) << shift, at + 1
            if byte < 128:
                return value, at
        return self._fail("has a number that ends early")

    def _fail(self, problem: str) -> NoReturn:
        raise DamagedFile(problem, path=self._path, remedy=FETCH_AGAIN)
