"""Opening a registry in PostgreSQL: settings, first creation, migrations, and what can be wrong with it, in words."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import psycopg

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryAway, RegistryError
from modelkin_registry.store.address import Address
from modelkin_registry.store.postgres import schema
from modelkin_registry.store.sql.session import DAMAGED
from modelkin_registry.store.times import now

CONNECT_SECONDS = 10  # how long to wait for the server's answer
BUSY_SECONDS = 30  # how long to wait for another writer before giving up, as at SQLite
OLDEST_SERVER = 16  # tried with 16 and 18
BUSY = f"another process has been writing for over {BUSY_SECONDS} s. Try again when it is done"
READ_ONLY = "it cannot be written. Check the rights of your user there, or that the server is no standby"
GONE = "the server ended the connection, or cannot go on. Check that it runs, and try again"
UNREACHED = "no connection. Check that the server runs and knows your user, and that the database is there (`createdb NAME` makes one)"

REMEDIES = {  # by the codes of PostgreSQL (appendix A of its manual)
    "55P03": BUSY,
    "25006": READ_ONLY,
    "42501": READ_ONLY,
    "42P01": "its tables are gone, or not yours to read. Check the schema and the rights of your user there",
    "53100": "the server's disk is full; nothing of this change was stored. Free some space and try again",
    "53300": "the server has no connection left. Try again later, or raise its max_connections",
    "XX001": DAMAGED,
    "XX002": DAMAGED,
}
CALLERS = (psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError, psycopg.NotSupportedError)  # unless they have a remedy


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turns what PostgreSQL says into a RegistryError that says what to do. Mistakes of the caller pass as they are."""
    try:
        yield
    except psycopg.Error as error:
        remedy = REMEDIES.get(error.sqlstate or "")
        if remedy is None and isinstance(error, CALLERS):
            raise
        said = " ".join(str(error).split())
        kind = RegistryAway if remedy in (None, BUSY) else RegistryError
        raise kind(f"{name}: {remedy or GONE} (PostgreSQL: {said}).") from error


def lock_of(address: Address, what: str) -> int:
    """The number of the lock that stands for something done with this registry; locks are told apart by database already."""
    return int.from_bytes(blake2b(f"modelkin {address.schema} {what}".encode(), digest_size=8).digest(), signed=True)


def connect(address: Address) -> psycopg.Connection[Any]:
    """A connection with our settings. Transactions are begun by who uses it. Raises RegistryError where there is none."""
    try:
        connection = psycopg.connect(address.server, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="modelkin")
    except psycopg.Error as error:  # that come without a code
        raise RegistryAway(f"{address}: {UNREACHED} (PostgreSQL: {' '.join(str(error).split())}).") from error
    try:
        connection.execute("SET client_encoding = 'UTF8'")
        connection.execute(f"SET lock_timeout = '{BUSY_SECONDS}s'")
        connection.execute("SET synchronous_commit = on")  # an acknowledged model survives a power cut
        connection.execute(f"SET search_path = {address.schema}, pg_temp")
    except BaseException:
        connection.close()
        raise
    return connection


def has_registry(address: Address) -> bool:
    """Whether there is one. Raises RegistryError."""
    with explained(address), connect(address) as connection:
        return _is_made(connection)


def opened(address: Address, *, create: bool, key_name: str) -> psycopg.Connection[Any]:
    """A connection to a current registry of this spec and key; made if missing and `create`.

    Raises:
        RegistryError: no registry, of another key or spec, written by a newer version, or out of reach.
    """
    with explained(address):
        connection = connect(address)
        try:
            _check_server(connection, address)
            if not _is_made(connection) and not create:
                raise RegistryError(
                    f"{address}: no registry there. Make one with `modelkin add SOURCE --registry {address}`, or give another address."
                )
            if not _is_made(connection) or {*_steps_done(connection)} != {*schema.STEPS}:
                _migrate(connection, address, key_name)
            _check_meta(connection, address, key_name)
        except BaseException:
            connection.close()
            raise
        return connection


def may_write(connection: psycopg.Connection[Any]) -> bool:
    """Whether this user may change the registry, and the server lets anybody."""
    return bool(_value(connection, "SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('change', 'INSERT')"))


def _check_server(connection: psycopg.Connection[Any], address: Address) -> None:
    if (version := connection.info.server_version // 10_000) < OLDEST_SERVER:
        raise RegistryError(f"{address}: PostgreSQL {version}, modelkin needs {OLDEST_SERVER} or newer. Upgrade the server.")
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise RegistryError(f"{address}: a database of encoding {encoding}. Give one of UTF8 (`createdb --encoding UTF8`).")


def _is_made(connection: psycopg.Connection[Any]) -> bool:
    return _value(connection, "SELECT to_regclass(current_schema() || '.migration')") is not None


def _steps_done(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM migration ORDER BY name")]


def _migrate(connection: psycopg.Connection[Any], address: Address, key_name: str) -> None:
    """All pending steps in one transaction. Another process may have done them while this one waited for the lock."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [lock_of(address, "write")])
        if not _value(connection, "SELECT to_regnamespace(%s) IS NOT NULL", address.schema):
            connection.execute(f"CREATE SCHEMA {address.schema}")
        elif not _is_made(connection) and _value(
            connection, "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(%s)", address.schema
        ):
            raise RegistryError(f"{address}: the schema {address.schema} holds other tables, but no registry. Give another one.")
        connection.execute(schema.NOTES)
        done = _steps_done(connection)
        if newer := [step for step in done if step not in schema.STEPS]:
            raise RegistryError(
                f"{address}: written by a newer modelkin (unknown step {newer[0]!r}). Upgrade with `pip install --upgrade modelkin`."
            )
        for step, statements in schema.STEPS.items():
            if step not in done:
                for statement in statements:
                    if callable(statement):
                        statement(connection)
                    else:
                        connection.execute(statement)
                connection.execute("INSERT INTO migration (name, at) VALUES (%s, %s)", [step, now()])
        made = [secrets.token_hex(16), spec.VERSION, key_name, now()]
        connection.execute(
            "INSERT INTO meta (id, registry, spec, key, created) VALUES (1, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING", made
        )


def _check_meta(connection: psycopg.Connection[Any], address: Address, key_name: str) -> None:
    row = connection.execute("SELECT spec, key FROM meta").fetchone()
    if row is None:
        raise RegistryError(f"{address}: {DAMAGED}.")
    made_by, made_with = row
    if made_by not in (spec.VERSION, *spec.OLDER):
        raise RegistryError(
            f"{address}: holds fingerprints of spec {made_by!r}, this version reads {spec.VERSION!r}. "
            "Upgrade with `pip install --upgrade modelkin`."
        )
    if made_with != key_name:
        raise RegistryError(f"{address}: made with key {made_with!r}, opened with {key_name!r}. Give its own key, or another registry.")
    if made_by != spec.VERSION and not may_write(connection):
        raise RegistryError(
            f"{address}: written by an older modelkin and has to be brought up to date, but you may not write there. "
            "Run `modelkin list` once as a user who may."
        )


def _value(connection: psycopg.Connection[Any], statement: Any, *values: str) -> Any:
    found = connection.execute(statement, values).fetchone()
    return None if found is None else found[0]
