"""The registry's truth as one SQLite file. Everything else (search rows, index) can be made again from it.

Several processes may read and write at once: a writer takes its lock when it begins, readers see the last finished state and never wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Self

from modelkin_indexer import spec
from modelkin_registry.store.sql.inspection import Inspection
from modelkin_registry.store.sql.tables import NEVER_AGAIN, Tables
from modelkin_registry.store.sql.writing import Writing
from modelkin_registry.store.sqlite.connecting import answered, connect
from modelkin_registry.store.sqlite.session import SqliteSession


class SqliteStore(Writing, SqliteSession):
    """An open registry file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        SqliteSession.__init__(self, path, connection)
        self.inspection, self.tables = SqliteInspection(self), SqliteTables(self)
        self.begin()

    @classmethod
    def open(cls, path: Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry in this file, made if missing and `create`. Without `create` one that may not be written can be read.

        Raises:
            RegistryError: not a registry, damaged, of another key or spec, written by a newer version, or out of reach.
        """
        return cls(path, connect(path, create=create, key_name=key_name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def written_to(self, path: Path) -> bool:
        """Write the file's pages as they are at this moment into another one. Writers go on meanwhile. Raises RegistryError."""
        with answered(self.path), closing(sqlite3.connect(path, isolation_level=None)) as copy:
            self.connection.backup(copy)
        return True

    @property
    def may_be_indexed(self) -> bool:
        """Whether an index may be written beside the file."""
        return not self.read_only


class SqliteInspection(Inspection):
    """The file looked at as a whole."""

    def engine_damage(self) -> Iterator[str]:
        """What SQLite says of the file."""
        yield from (line for (line,) in self._session.each("PRAGMA integrity_check") if line != "ok")

    def size(self) -> int:
        """Bytes of the file; what is in its log alone is not counted."""
        return int(self._session.value("PRAGMA page_count")) * int(self._session.value("PRAGMA page_size"))

    def lost_references(self) -> Iterator[str]:
        """Rows that refer to rows which are not there."""
        for row in self._session.each("PRAGMA foreign_key_check"):
            yield f"row {row['rowid']} of table {row['table']} refers to a missing row of {row['parent']}"


class SqliteTables(Tables):
    """The file's tables."""

    def numbers(self) -> Mapping[str, int]:
        """The last numbers that SQLite gave."""
        given = {row["name"]: int(row["seq"]) for row in self._session.rows("SELECT name, seq FROM sqlite_sequence")}
        return {table: given.get(table, 0) for table in NEVER_AGAIN}

    def go_on_from(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows the numbers after these."""
        for table, last in numbers.items():
            self._session.run("DELETE FROM sqlite_sequence WHERE name = ?", [table])
            self._session.run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])
