"""An open registry in PostgreSQL: its statements and transactions.

One transaction writes at a time, as at SQLite: it holds a lock of the registry from its begin. So numbers have no gaps, and whoever reads
the change log never finds a number later that is lower than one read before. Readers never wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any, TypeVar

import psycopg

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.address import Address
from modelkin_registry.store.postgres.connecting import READ_ONLY, connect, explained, lock_of, may_write
from modelkin_registry.store.postgres.schema import NUMBERED
from modelkin_registry.store.sql.session import Row, Session, sealed_values
from modelkin_registry.store.words import storable

Result = TypeVar("Result")
AT_ONCE = 256  # rows fetched at once where a transaction reads them one after the other
IDLE_SECONDS = 600  # how long a writer may be silent inside a transaction: a machine that is gone must not hold the registry
CLOCK = """SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
NEXT = "UPDATE number SET last = last + 1 WHERE name = %s RETURNING last"


class NamedRow:
    """A row whose columns have names."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: Sequence[Any]) -> None:
        self._places, self._values = places, values

    def __getitem__(self, column: int | str) -> Any:
        return self._values[self._places[column] if isinstance(column, str) else column]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def keys(self) -> Iterable[str]:
        """The columns' names."""
        return self._places.keys()


def named(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> Any:
    """Makes rows of what a cursor gives."""
    places = {column.name: number for number, column in enumerate(cursor.description or ())}
    return lambda values: NamedRow(places, values)


@cache
def spoken(statement: str) -> str:
    """A statement of the shared SQL as psycopg takes it."""
    for ours, theirs in (("%", "%%"), ("json_each(?)", "jsonb_array_elements_text(?::jsonb)"), ("instr(", "strpos("), ("?", "%s")):
        statement = statement.replace(ours, theirs)
    return statement


class PostgresSession(Session):
    """What every table of the store works through, at PostgreSQL."""

    SKIP_LOCKED = " FOR UPDATE SKIP LOCKED"

    def __init__(self, address: Address, connection: psycopg.Connection[Any]) -> None:
        self.place, self.name = address, str(address)
        self.address, self._connection = address, connection
        self.read_only = not may_write(connection)
        self._cursors = count()
        self._is_closed = self._within = False

    def close(self) -> None:
        """Let go of the server. A second close does nothing."""
        self._is_closed = True
        self._connection.close()

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection; another one where the server had ended it outside a transaction."""
        if self._connection.closed and not (self._is_closed or self._within):  # what is left of a transaction must not be done without it
            with explained(self.name):
                self._connection = connect(self.address)
        return self._connection

    # statements

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows that a statement gives."""
        with explained(self.name):
            return self._done(lambda: self._cursor().execute(spoken(statement), _storable(values)).fetchall())

    def each(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows that a statement gives, one after the other; outside a transaction all are fetched at once."""
        if not self.in_transaction:
            yield from self.rows(statement, values)
            return
        with explained(self.name), self.connection.cursor(f"rows_{next(self._cursors)}", binary=True, row_factory=named) as cursor:
            cursor.itersize = AT_ONCE
            yield from cursor.execute(spoken(statement), _storable(values))

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement. Returns how many rows it changed."""
        with explained(self.name):
            return self._done(lambda: self._cursor().execute(spoken(statement), _storable(values)).rowcount)

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Run a statement for each row of values. Returns how many rows were changed."""
        given = [_storable(row) for row in rows]
        with explained(self.name):
            cursor = self._cursor()
            cursor.executemany(spoken(statement), given)
            return max(cursor.rowcount, 0) if given else 0

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row. Returns its number."""
        row = dict(sealed_values(table, values))
        with explained(self.name):
            if table in NUMBERED:
                row[NUMBERED[table]] = self._cursor().execute(NEXT, [table]).fetchall()[0][0]
            columns, places = ", ".join(f'"{name}"' for name in row), ", ".join(["%s"] * len(row))
            self._cursor().execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", _storable([*row.values()]))  # noqa: S608
            return int(row[NUMBERED[table]]) if table in NUMBERED else 0

    def _begun(self, begin: str) -> None:
        connection = self.connection
        try:
            connection.execute(begin)
        except BaseException:
            if not connection.closed:  # begun, but the lock was not had
                connection.execute("ROLLBACK")
            raise

    def _done(self, do: Callable[[], Result]) -> Result:
        """Do one statement; outside a transaction once more over a new connection, where it shows now that the server ended this one."""
        try:
            return do()
        except psycopg.OperationalError:
            if self._within or not self._connection.closed:
                raise
            return do()

    def _cursor(self) -> psycopg.Cursor[Any]:
        return self.connection.cursor(binary=True, row_factory=named)

    # transactions

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One write transaction, whole or not at all; inside another one a part that can fail alone.

        Raises:
            RegistryError: the registry may not be written, or trouble with the server.
        """
        if self.read_only:
            raise RegistryError(f"{self.name}: {READ_ONLY}.")
        with explained(self.name):
            if self.in_transaction:
                with self.connection.transaction():
                    yield
                return
            settings = f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'"
            lock = f"SELECT pg_advisory_xact_lock({lock_of(self.address, 'write')})"
            with self._transaction(f"BEGIN; {settings}; {lock}", "COMMIT"):
                yield

    @contextmanager
    def brief(self) -> Iterator[None]:
        """A write transaction that touches no model, beside whoever writes one. Raises RegistryError."""
        if self.read_only:
            raise RegistryError(f"{self.name}: {READ_ONLY}.")
        with explained(self.name):
            if self.in_transaction:
                yield
                return
            with self._transaction("BEGIN", "COMMIT"):
                yield

    @contextmanager
    def at_once(self) -> Iterator[bool]:
        """As `brief`, which waits for nobody who writes models; of two who keep the same the second waits for a moment."""
        if self.in_transaction:
            yield False
            return
        with self.brief():
            yield True

    def clock(self) -> str:
        """The server's time."""
        return str(self.value(CLOCK))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one moment."""
        with explained(self.name):
            if self.in_transaction:
                yield
                return
            with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "ROLLBACK"):
                yield

    @contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[None]:
        with explained(self.name):
            self._done(lambda: self._begun(begin))
        connection, self._within = self._connection, True
        try:
            yield
            connection.execute(end)
        except BaseException:
            if not connection.closed:
                connection.execute("ROLLBACK")
            raise
        finally:
            self._within = False

    @property
    def in_transaction(self) -> bool:
        """Whether this is inside `batch` or `reading`."""
        return self._within

    @contextmanager
    def alone(self, what: str) -> Iterator[bool]:
        """Whether nobody else does this with the registry meanwhile. The server lets go of the lock when the connection ends."""
        key = lock_of(self.address, what)
        held = bool(self.value("SELECT pg_try_advisory_lock(?)", [key]))
        try:
            yield held
        finally:
            if held and not self._connection.closed:
                self.value("SELECT pg_advisory_unlock(?)", [key])


def _storable(values: Sequence[Any]) -> list[Any]:
    """Values with texts as PostgreSQL can hold them: what is asked for may have characters that no stored one has."""
    return [storable(value) if isinstance(value, str) else value for value in values]
