"""A lock between processes that is portable and dies with its holder: an empty SQLite file, held by an unfinished transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait_seconds: float) -> Iterator[bool]:
    """Whether this process holds the lock; False where another one has held it for all of the time given. Raises OSError."""
    try:
        connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise OSError(f"{path}: {error}") from error
    with closing(connection):
        yield _held(connection, path)


def _held(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise OSError(f"{path}: {error}") from error
        return False
    return True
