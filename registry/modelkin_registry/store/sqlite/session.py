"""An open SQLite file: its statements and transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.sql.session import Row, Session, sealed_values
from modelkin_registry.store.sqlite.connecting import BUSY_SECONDS, REMEDIES, answered, explained, is_read_only
from modelkin_registry.store.times import now


class SqliteSession(Session):
    """What every table of the store works through, at SQLite."""

    SKIP_LOCKED = ""  # who changes anything has the whole file

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = self.place = path
        self.name = str(path)
        self.connection = connection
        self.read_only = is_read_only(connection)

    def close(self) -> None:
        """Close the file. A second close does nothing."""
        self.connection.close()

    # statements

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows that a statement gives."""
        with answered(self.path):
            return self._cursor().execute(statement, values).fetchall()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows that a statement gives, one after the other."""
        with answered(self.path):
            yield from self._cursor().execute(statement, values)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement. Returns how many rows it changed."""
        with answered(self.path):
            return self.connection.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement for each row of values. Returns how many rows were changed."""
        with answered(self.path):
            before = self.connection.total_changes
            self.connection.executemany(statement, rows)
            return self.connection.total_changes - before

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row. Returns its number."""
        row = sealed_values(table, values)
        columns, places = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
        with answered(self.path):
            cursor = self.connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", [*row.values()])  # noqa: S608
            return int(cursor.lastrowid or 0)

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor

    # transactions

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One write transaction, whole or not at all; inside another one a part that can fail alone.

        Raises:
            RegistryError: the file may not be written, or trouble with it.
        """
        if self.read_only:
            raise RegistryError(f"{self.path}: {REMEDIES[sqlite3.SQLITE_READONLY]}.")
        with explained(self.path):
            if self.in_transaction:
                with self._part():
                    yield
                return
            self.connection.execute("BEGIN IMMEDIATE")  # a plain BEGIN fails when two writers have both read
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def brief(self) -> AbstractContextManager[None]:
        """A write transaction like any other: there is one lock."""
        return self.batch()

    @contextmanager
    def at_once(self) -> Iterator[bool]:
        """As `brief`, unless somebody writes now."""
        if self.in_transaction:
            yield False
            return
        with explained(self.path):
            self.connection.execute("PRAGMA busy_timeout = 0")
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                free = True
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                free = False
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")
            try:
                yield free
                if free:
                    self.connection.execute("COMMIT")
            except BaseException:
                if self.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def clock(self) -> str:
        """The time of the machine that has the file."""
        return now()

    @contextmanager
    def _part(self) -> Iterator[None]:
        self.connection.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self.in_transaction:
                self.connection.execute("ROLLBACK TO part")
                self.connection.execute("RELEASE part")
            raise
        self.connection.execute("RELEASE part")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with explained(self.path):
            if self.in_transaction:
                yield
                return
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Whether this connection is inside `batch` or `reading`."""
        return self.connection.in_transaction

    @contextmanager
    def alone(self, what: str) -> Iterator[bool]:
        """Whether no other process does this with the file meanwhile. The system lets go of the lock however this process ends."""
        import fcntl  # which not every system has that can read a registry

        path = self.path.resolve()
        with path.with_name(f".{path.name}.{what}").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
