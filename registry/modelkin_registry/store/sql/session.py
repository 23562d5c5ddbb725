"""What every table of a store works through, whatever engine runs the statements: rows by the names of their columns, transactions.

Statements are of the SQL that SQLite and PostgreSQL share, with `?` for values; `json_each(?)` gives the items of a JSON list as `value`,
and `instr(text, part)` where a part begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.address import Place
from modelkin_registry.store.sql.sealed import SEALED, seal_of

DAMAGED = "it is damaged. Restore it from a backup or an export; `modelkin doctor` shows what is still readable"
DOCTOR = "`modelkin doctor` shows what is still readable; restore the registry from a backup or an export"


class Row(Protocol):
    """A row as both engines give it: by position, and by the names of its columns."""

    def __getitem__(self, column: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def keys(self) -> Iterable[str]: ...


class Session(ABC):
    """An open registry at one engine. Trouble with it becomes a RegistryError that says what to do.

    `name` is what messages call it, `place` what opens it again; beside `path` lies what is derived from it.
    """

    SKIP_LOCKED: str  # ends a SELECT of rows that are changed next, where others may do the same: theirs are passed over
    path: Path
    place: Place
    name: str
    read_only: bool

    # what an engine has to do

    @abstractmethod
    def close(self) -> None:
        """Let go of it. A second close does nothing."""

    @abstractmethod
    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows that a statement gives."""

    @abstractmethod
    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows that a statement gives, one after the other; inside a transaction never all in memory."""

    @abstractmethod
    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement. Returns how many rows it changed."""

    @abstractmethod
    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement for each row of values. Returns how many rows were changed."""

    @abstractmethod
    def insert(self, table: str, **values: Any) -> int:
        """Insert one row. Returns its number, 0 in a table whose rows have none of their own."""

    @abstractmethod
    def batch(self) -> AbstractContextManager[None]:
        """One write transaction, whole or not at all; inside another one a part that can fail alone. Raises RegistryError."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment."""

    @abstractmethod
    def brief(self) -> AbstractContextManager[None]:
        """A write transaction that touches no model: it need not wait for those that do. Raises RegistryError."""

    @abstractmethod
    def at_once(self) -> AbstractContextManager[bool]:
        """As `brief`, where nobody has to be waited for; else, and inside a transaction, False, and nothing may be written in it."""

    @abstractmethod
    def clock(self) -> str:
        """The engine's time, as stored: the same clock for all who use the registry."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool:
        """Whether this is inside `batch` or `reading`."""

    @abstractmethod
    def alone(self, what: str) -> AbstractContextManager[bool]:
        """Whether nothing else, on whatever machine, does this with the registry meanwhile; however this process ends, it is let go."""

    # what follows from it

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
            raise RegistryError(f"{self.name}: {DAMAGED} ({value!r} where a text was stored).")
        return value

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, None where there is no row."""
        return next(iter(self.column(statement, values)), None)

    def update(self, table: str, number: int, **values: Any) -> None:
        """Change a row of a sealed table."""
        row = {**self.whole(self.rows(f"SELECT * FROM {table} WHERE id = ?", [number])[0], table, ""), **values}  # noqa: S608
        row["checksum"] = seal_of(table, row)
        changed = {name: row[name] for name in (*values, "checksum")}
        self.run(f"UPDATE {table} SET {', '.join(f'{name} = ?' for name in changed)} WHERE id = ?", [*changed.values(), number])  # noqa: S608

    def whole(self, row: Row, table: str, prefix: str | None = None) -> dict[str, Any]:
        """A sealed table's columns of a row, held against their checksum. Raises RegistryError where they are not what was stored."""
        prefix = f"{table}_" if prefix is None else prefix
        try:
            found = {column: row[prefix + column] for column in SEALED[table]}
            is_sound = seal_of(table, found) == row[prefix + "checksum"]
        except (IndexError, KeyError):
            raise RegistryError(f"{self.name}: {DAMAGED} (table {table} has other columns).") from None
        if not is_sound:
            raise RegistryError(f"{self.name}: a row of table {table} is damaged ({found.get('name', '')!r}). {DOCTOR}.")
        return found

    def sound(self, table: str, statement: str, values: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """The rows that a SELECT gives with all columns of a sealed table, without the checksum. Raises RegistryError if one is damaged."""
        for row in self.each(statement, values):
            self.whole(row, table, "")
            yield {name: value for name, value in dict(row).items() if name != "checksum"}


def sealed_values(table: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A new row's values, with their checksum where the table has one."""
    return {**values, "checksum": seal_of(table, values)} if table in SEALED else values
