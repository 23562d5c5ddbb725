"""An open SQLite file: its transactions, and its rows read by the names of their columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.rows import checksum
from modelkin_registry.store.sqlite.connecting import REMEDIES, answered, explained, is_read_only
from modelkin_registry.store.sqlite.marks import SEALED

DOCTOR = "`modelkin doctor` shows what is still readable; restore the registry from a backup or an export"


def sealed(table: str) -> str:
    """The columns of such a table for a SELECT of several: each under the table's name and its own."""
    return ", ".join(f"{table}.{column} AS {table}_{column}" for column in (*SEALED[table], "checksum"))


def seal_of(table: str, row: Mapping[str, Any]) -> int:
    """The checksum that a row ought to carry."""
    return checksum(*(row[column] for column in SEALED[table]))


class Session:
    """What every table of the store works through. Trouble with the file becomes a RegistryError that says what to do."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.read_only = is_read_only(connection)

    def close(self) -> None:
        """Close the file. A second close does nothing."""
        self.connection.close()

    # statements

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows that a statement gives."""
        with answered(self.path):
            return self._cursor().execute(statement, values).fetchall()

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[sqlite3.Row]:
        """The rows that a statement gives, one after the other."""
        with answered(self.path):
            yield from self._cursor().execute(statement, values)

    def dicts(self, statement: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows, each as a dictionary."""
        return [dict(row) for row in self.rows(statement, values)]

    def column(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """The first column of all rows."""
        return [row[0] for row in self.rows(statement, values)]

    def texts(self, statement: str, values: Sequence[Any] = ()) -> list[str]:
        """The first column of all rows, which holds text."""
        return [self.text(value) for value in self.column(statement, values)]

    def text(self, value: object) -> str:
        """A value that is text unless it was damaged."""
        if not isinstance(value, str):
            raise RegistryError(f"{self.path}: {REMEDIES[sqlite3.SQLITE_CORRUPT]} ({value!r} where a text was stored).")
        return value

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, None where there is no row."""
        return next(iter(self.column(statement, values)), None)

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
        if table in SEALED:
            values["checksum"] = seal_of(table, values)
        columns, places = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
        with answered(self.path):
            cursor = self.connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", [*values.values()])  # noqa: S608
            return int(cursor.lastrowid or 0)

    def update(self, table: str, number: int, **values: Any) -> None:
        """Change a row of a sealed table."""
        row = {**self.whole(self.rows(f"SELECT * FROM {table} WHERE id = ?", [number])[0], table, ""), **values}  # noqa: S608
        row["checksum"] = seal_of(table, row)
        changed = {name: row[name] for name in (*values, "checksum")}
        self.run(f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in changed)} WHERE id = ?", [*changed.values(), number])  # noqa: S608

    def whole(self, row: sqlite3.Row, table: str, prefix: str | None = None) -> dict[str, Any]:
        """A sealed table's columns of a row, held against their checksum. Raises RegistryError where they are not what was stored."""
        prefix = f"{table}_" if prefix is None else prefix
        found = {column: row[prefix + column] for column in SEALED[table]}
        if seal_of(table, found) != row[prefix + "checksum"]:
            raise RegistryError(f"{self.path}: a row of table {table} is damaged ({found.get('name', '')!r}). {DOCTOR}.")
        return found

    def sound(self, table: str, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """The rows that a SELECT gives with all columns of a sealed table, without the checksum. Raises RegistryError if one is damaged."""
        for row in self.each(statement, values):
            self.whole(row, table, "")
            yield {name: value for name, value in dict(row).items() if name != "checksum"}

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
