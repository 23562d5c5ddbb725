"""The registry's truth in PostgreSQL, for many machines. Everything else (search rows, index) can be made again from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import platformdirs
import psycopg

from modelkin_indexer import spec
from modelkin_registry.store.address import Address
from modelkin_registry.store.postgres.connecting import explained, opened
from modelkin_registry.store.postgres.schema import NUMBERED
from modelkin_registry.store.postgres.session import PostgresSession
from modelkin_registry.store.sql.inspection import Inspection
from modelkin_registry.store.sql.tables import NEVER_AGAIN, Tables
from modelkin_registry.store.sql.writing import Writing

CACHE = "MODELKIN_CACHE"  # environment: the user's cache is elsewhere
REFERENCES = """SELECT source.relname AS child, own.attname AS of, target.relname AS parent, theirs.attname AS to
    FROM pg_constraint JOIN pg_class AS source ON source.oid = conrelid JOIN pg_class AS target ON target.oid = confrelid
    JOIN pg_attribute AS own ON own.attrelid = conrelid AND own.attnum = conkey[1]
    JOIN pg_attribute AS theirs ON theirs.attrelid = confrelid AND theirs.attnum = confkey[1]
    WHERE contype = 'f' AND connamespace = to_regnamespace(current_schema()) ORDER BY 1, 2"""
BROKEN = """SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid
    WHERE NOT indisvalid AND relnamespace = to_regnamespace(current_schema())"""
SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = to_regnamespace(current_schema())"
PAGES = "SELECT coalesce(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"


class PostgresStore(Writing, PostgresSession):
    """An open registry in a schema of a PostgreSQL database."""

    def __init__(self, address: Address, connection: psycopg.Connection[Any]) -> None:
        PostgresSession.__init__(self, address, connection)
        self.inspection, self.tables = PostgresInspection(self), PostgresTables(self)
        self.begin()
        self.path = _beside(self.registry_id, address)

    @classmethod
    def open(cls, address: Address, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry there, made if missing and `create`. Without `create` one that may not be written can be read.

        Raises:
            RegistryError: no registry, of another key or spec, written by a newer version, or out of reach.
        """
        with explained(address):
            return cls(address, opened(address, create=create, key_name=key_name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def written_to(self, path: Path) -> bool:
        """Nothing: a server's registry is no file."""
        return False

    @property
    def may_be_indexed(self) -> bool:
        """Whether this machine has a place for an index."""
        return self.path.parent.is_dir()


def _beside(registry_id: str, address: Address) -> Path:
    """Where this machine keeps what is derived from the registry: in a folder of its own in the user's cache."""
    which = blake2b(f"{registry_id} {address}".encode(), digest_size=8).hexdigest()
    cache = Path(os.environ.get(CACHE) or platformdirs.user_cache_dir("modelkin"))
    path = cache / "postgresql" / which / "registry"
    with suppress(OSError):  # then searches go on without an index
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


class PostgresInspection(Inspection):
    """The schema looked at as a whole."""

    def engine_damage(self) -> Iterator[str]:
        """What the server says of its pages and indexes."""
        yield from (f"the index {name} is not valid" for name in self._session.column(BROKEN))
        if failures := self._session.value(PAGES):
            yield f"the server found {failures} damaged pages in this database"

    def size(self) -> int:
        """Bytes of the schema's tables and indexes."""
        return int(self._session.value(SIZE) or 0)

    def lost_references(self) -> Iterator[str]:
        """Rows that refer to rows which are not there."""
        for child, of, parent, to in self._session.rows(REFERENCES):
            lost = f"SELECT count(*) FROM {child} WHERE {of} IS NOT NULL AND {of} NOT IN (SELECT {to} FROM {parent})"  # noqa: S608
            if number := self._session.value(lost):
                yield f"{number} rows of table {child} refer to missing rows of {parent}"


class PostgresTables(Tables):
    """The schema's tables."""

    def numbers(self) -> Mapping[str, int]:
        """The last numbers that were given."""
        given = {row["name"]: int(row["last"]) for row in self._session.rows("SELECT name, last FROM number")}
        return {table: given[table] for table in NEVER_AGAIN}

    def go_on_from(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows the numbers after these; in other tables those after the highest there is."""
        for table, column in NUMBERED.items():
            last = numbers.get(table) or self._session.value(f"SELECT coalesce(max({column}), 0) FROM {table}")  # noqa: S608
            self._session.run("UPDATE number SET last = ? WHERE name = ?", [last, table])
