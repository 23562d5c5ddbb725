"""Zip archives that a stranger wrote: their members by position, with the directory's size bounded before it is read."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

MAX_READ = 16_000_000  # bytes asked for at once; the directory of 100,000 members takes 8 MB
LOCAL_HEADER, LOCAL_MARK = 30, b"PK\x03\x04"
WINDOW = 65_536


class Member(Struct, frozen=True):
    """A file in the archive: where its stored bytes begin, how many they are, how many they become, and the CRC-32 of those."""

    name: str
    start: int
    stored: int
    size: int
    method: int
    checksum: int

    @property
    def plain(self) -> bool:
        """Whether its bytes are stored as they are."""
        return self.method == zipfile.ZIP_STORED and self.stored == self.size


class BoundedFile(io.RawIOBase):
    """Bytes [start, stop) of an open file as a file object. Nothing larger than `MAX_READ` is read at once."""

    def __init__(self, descriptor: int, start: int, stop: int, path: Path) -> None:
        self._descriptor, self._start, self._stop, self._path = descriptor, start, stop, path
        self._at = start
        self._window, self._first = b"", start

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._stop}[whence]
        if base + offset < self._start:
            raise OSError("seek before the beginning")
        self._at = base + offset
        return self.tell()

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._stop - self._at)
        count = left if count is None or count < 0 else min(count, left)
        if count > MAX_READ:
            problem = f"asks for {count:,} bytes of names and settings at once, more than {MAX_READ:,}"
            raise UnsupportedFormat(problem, path=self._path, remedy="Convert the weights to safetensors.")
        data = self._buffered(count) if count <= WINDOW else bytes(read_exact(self._descriptor, self._at, count, self._path))
        self._at += count
        return data

    def readline(self, limit: int | None = -1) -> bytes:
        """A line of at most a window's bytes, with its end if there is one."""
        ahead = self._buffered(min(WINDOW, max(0, self._stop - self._at)))
        end = ahead.find(b"\n") + 1
        line = ahead[: end or len(ahead)]
        self._at += len(line)
        return line

    def _buffered(self, count: int) -> bytes:
        begin = self._at - self._first
        if not 0 <= begin <= begin + count <= len(self._window):
            length = min(2 * WINDOW, max(0, self._stop - self._at))
            self._window, self._first = bytes(read_exact(self._descriptor, self._at, length, self._path)), self._at
            begin = 0
        return self._window[begin : begin + count]


def read_members(descriptor: int, size: int, path: Path) -> Mapping[str, Member]:
    """The members of an archive of `size` bytes, by name.

    Raises:
        DamagedFile: no sound archive, or a member that is not where the directory puts it.
        UnsupportedFormat: a directory too large to be one of weights, or an encrypted member.
    """
    try:
        with zipfile.ZipFile(BoundedFile(descriptor, 0, size, path)) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError, IndexError) as error:
        raise DamagedFile(f"is no sound zip archive ({error})", path=path, remedy=FETCH_AGAIN) from error
    members: dict[str, Member] = {}
    for info in found:
        if info.filename in members:
            raise DamagedFile(f"holds {info.filename!r} twice", path=path, remedy=FETCH_AGAIN)
        if info.flag_bits & 1:
            raise UnsupportedFormat(f"holds {info.filename!r} encrypted", path=path, remedy="Decrypt the archive.")
        start = _data_start(info, descriptor, size, path)
        members[info.filename] = Member(info.filename, start, info.compress_size, info.file_size, info.compress_type, info.CRC)
    return members


def _data_start(info: zipfile.ZipInfo, descriptor: int, size: int, path: Path) -> int:
    where = info.header_offset
    if 0 <= where <= size - LOCAL_HEADER:
        header = read_exact(descriptor, where, LOCAL_HEADER, path)
        start = where + LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if header[:4] == LOCAL_MARK and start + info.compress_size <= size:
            return start
    raise DamagedFile(f"puts {info.filename!r} where it is not", path=path, remedy=f"The file may be cut short. {FETCH_AGAIN}")
