"""A registry's file damaged: pages zeroed, single bits turned, sectors zeroed; and a disk that is full."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

PAGES, BITS, SECTORS = 200, 100, 90
SECTOR = 512  # bytes


def damages(data: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """What is damaged, and the file's bytes then. Bits and sectors are hit where something is written, pages anywhere.

    Raises:
        ValueError: a file of fewer pages than are to be zeroed.
    """
    random, page = Random(seed), int.from_bytes(data[16:18], "big")  # the page's size, by SQLite's file format
    written = [at for at in range(len(data)) if data[at]]
    for number in random.sample(range(len(data) // page), PAGES):
        yield f"page {number + 1} zeroed", _put(data, number * page, bytes(page))
    for _ in range(BITS):
        at, bit = random.choice(written), random.randrange(8)
        yield f"bit {bit} of byte {at} turned", _put(data, at, bytes([data[at] ^ 1 << bit]))
    for _ in range(SECTORS):
        at = random.choice(written) // SECTOR * SECTOR
        yield f"sector at {at} zeroed", _put(data, at, bytes(SECTOR))


def _put(data: bytes, at: int, content: bytes) -> bytes:
    return data[:at] + content + data[at + len(content) :]


def closed(path: Path) -> bytes:
    """The registry's file with all of its log in it."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.read_bytes()


Call = Callable[[Path], Sequence[str]]  # the command on a registry


def with_little_room(registry: Path, call: Call, most: int) -> subprocess.CompletedProcess[str]:
    """The command where no file may be written past so many bytes: SQLite's log grows up to that."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.run([*call(registry)], capture_output=True, text=True, check=False, preexec_fn=limited)


def on_full_disk(registry: Path, call: Call, room: int) -> subprocess.CompletedProcess[str] | None:
    """The command on a file system of its own, so large that so many bytes are free; the registry is as that leaves it.

    None where the system does not let one be made without being asked.
    """
    disk = registry.parent / "disk"
    disk.mkdir(exist_ok=True)
    there = disk / registry.name
    steps = (
        f"mount -t tmpfs -o size={registry.stat().st_size + room} tmpfs '{disk}' || exit 99",
        f"cp '{registry}' '{there}' || exit 99",
        '"$@"; rc=$?',
        f"cp '{there}'* '{registry.parent}'; exit $rc",
    )
    if shutil.which("unshare") is None:
        return None
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "\n".join(steps), "sh", *call(there)]
    done = subprocess.run(inside, capture_output=True, text=True, check=False)
    return None if done.returncode == 99 or "unshare:" in done.stderr else done
