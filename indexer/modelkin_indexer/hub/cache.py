"""Ranges of files that were read before, in a folder that several processes may share and that does not grow over its limit.

`FOLDER/KEY[:2]/KEY/START-STOP` holds the bytes and a checksum. Files appear whole under their name, and the longest unused ones go first;
what is missing or damaged is only read again.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import xxhash

SUM_BYTES = xxhash.xxh3_128().digest_size
KEPT = 0.8  # of the limit, what is left after it was reached
Range = tuple[int, int]


def cache_key(endpoint: str, digest: str) -> str:
    """Of a file's content as one Hub announces it: only that Hub is believed that the ranges are those of the digest."""
    return blake2b(f"{endpoint}\n{digest}".encode(), digest_size=20).hexdigest()


class RangeCache:
    """For the files of one reading: which ranges are there is looked up once a file. Several threads may use it at once."""

    def __init__(self, folder: Path, limit: int) -> None:
        """`limit` in bytes of all files together."""
        self.folder, self.limit = folder, limit
        self._held: dict[str, dict[Range, bool]] = {}  # whether its checksum was looked at
        self._size: int | None = None
        self._lock = threading.Lock()

    def read(self, key: str, start: int, out: memoryview) -> list[Range]:
        """Fill what is there of the bytes from `start` on into `out`. Returns what is not."""
        stop, at = start + len(out), start
        gaps: list[Range] = []
        for low, high in self._overlapping(key, start, stop):
            begin, end = max(low, at), min(high, stop)
            if begin < end and self._copy(key, (low, high), begin - low, out[begin - start : end - start]):
                gaps += [(at, begin)] if at < begin else []
                at = end
        return [*gaps, *([(at, stop)] if at < stop else [])]

    def missing(self, key: str, start: int, stop: int) -> list[Range]:
        """What of the bytes [start, stop) is not there, going by names alone."""
        at, gaps = start, []
        for low, high in self._overlapping(key, start, stop):
            gaps += [(at, low)] if at < low else []
            at = max(at, high)
        return [*gaps, *([(at, stop)] if at < stop else [])]

    def put(self, key: str, start: int, data: bytes | bytearray) -> None:
        """Keep bytes from `start` on. What cannot be written is not kept."""
        if not data:
            return
        place, name = self._place(key), (start, start + len(data))
        unfinished = place / f".{secrets.token_hex(8)}"
        try:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            with unfinished.open("wb") as file:
                file.write(data)
                file.write(xxhash.xxh3_128_digest(data))
            unfinished.replace(place / f"{name[0]}-{name[1]}")
        except OSError:
            unfinished.unlink(missing_ok=True)
            return
        with self._lock:
            self._held.setdefault(key, {})[name] = True
            self._size = (self._total() if self._size is None else self._size) + len(data)
            if self._size > self.limit:
                self._size = self._shrink()

    def _place(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _overlapping(self, key: str, start: int, stop: int) -> list[Range]:
        with self._lock:
            if key not in self._held:
                self._held[key] = dict.fromkeys(self._listed(key), False)
            return sorted(found for found in self._held[key] if found[0] < stop and found[1] > start)

    def _listed(self, key: str) -> Iterator[Range]:
        with suppress(OSError):
            for path in self._place(key).iterdir():
                low, _, high = path.name.partition("-")
                if low.isdecimal() and high.isdecimal() and int(low) < int(high):
                    yield int(low), int(high)

    def _copy(self, key: str, found: Range, skip: int, out: memoryview) -> bool:
        path, length = self._place(key) / f"{found[0]}-{found[1]}", found[1] - found[0]
        try:
            with path.open("rb") as file:
                if not self._held[key].get(found):
                    data = file.read(length + SUM_BYTES + 1)
                    if len(data) != length + SUM_BYTES or xxhash.xxh3_128_digest(memoryview(data)[:length]) != data[length:]:
                        raise OSError("damaged")
                    os.utime(path)
                    self._held[key][found] = True
                    out[:] = memoryview(data)[skip : skip + len(out)]
                    return True
                file.seek(skip)
                if file.readinto(out) == len(out):
                    return True
        except OSError:
            with self._lock:
                self._held[key].pop(found, None)
        return False

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, bytes and path of each file."""
        for path in self.folder.glob("*/*/*"):
            with suppress(OSError):
                seen = path.stat()
                yield seen.st_mtime, seen.st_size, path

    def _total(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _shrink(self) -> int:
        """Remove the longest unused files. Returns the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.limit * KEPT:
                break
            with suppress(OSError):
                path.unlink()
                total -= size
        return total
