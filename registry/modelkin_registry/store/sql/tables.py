"""A registry's tables as they are, row by row with their numbers and checksums: for copies from one engine to another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from modelkin_registry.store.sql.facets import COLUMNS as FACETS
from modelkin_registry.store.sql.sealed import SEALED, seal_of
from modelkin_registry.store.sql.session import Session
from modelkin_registry.store.words import storable

AT_ONCE = 256  # rows written at once
# Every table with its columns; what is referred to comes first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "meta": ("id", "registry", "spec", "key", "created"),
    **{table: ("id", *SEALED[table], "checksum") for table in ("model", "revision", "fingerprint", "source", "claim")},
    "blob": ("fingerprint", "data"),
    "kind": ("name", "dims", "checksum"),
    "vector": ("kind", "revision", "component", "fingerprint", "layers", "data", "checksum"),
    "structure": (*SEALED["structure"], "checksum"),
    "background": (*SEALED["background"], "checksum"),
    "tag": (*SEALED["tag"], "checksum"),
    "note": (*SEALED["note"], "checksum"),
    "facet": FACETS,
    "change": ("seq", "model", "what", "at", "revision"),
    "hub_repo": (
        *("repo", "hub_id", "revision", "modified", "level", "selection", "state", "reason", "tries", "passing", "content", "bytes"),
        *("model", "noted", "seen", "holder", "until", "not_before", "leases"),
    ),
    "hub_listing": ("selection", "newest", "noted"),
}
NEVER_AGAIN = ("model", "revision", "fingerprint", "change")  # tables whose rows get numbers that are never given again
ORDER = {"model": "redirect_to IS NOT NULL, id", "structure": "model, kind, name, digest"}  # else by the first columns


class Tables(ABC):
    """All tables of an open registry. Reads and writes inside its caller's transactions."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in an order in which they can be filled."""
        return tuple(COLUMNS)

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self._session.value(f"SELECT count(*) FROM {table}"))  # noqa: S608

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table, their columns in the order of COLUMNS, rows in a fixed order."""
        columns = COLUMNS[table]
        order = ORDER.get(table, ", ".join(columns[:3]))
        yield from map(tuple, self._session.each(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"))  # noqa: S608

    def is_empty(self) -> bool:
        """Whether nothing was ever put into this registry."""
        return not any(self.count(table) for table in COLUMNS if table != "meta") and not any(self.numbers().values())

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> int:
        """Make these the rows of a table that has none but of `meta`. Returns how many."""
        columns, done = COLUMNS[table], 0
        self._session.run(f"DELETE FROM {table}")  # noqa: S608
        new = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        waiting = iter(rows)
        while some := list(islice(waiting, AT_ONCE)):
            done += self._session.run_many(new, [_portable(table, row) for row in some])
        return done

    @abstractmethod
    def numbers(self) -> Mapping[str, int]:
        """The last number that was given in each table of NEVER_AGAIN, to a row that may be gone."""

    @abstractmethod
    def go_on_from(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows the numbers after these."""


def _portable(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as every engine can hold it: a NUL, which an older version let into texts, is written as one would store it now."""
    if not any(isinstance(value, str) and "\0" in value for value in row):
        return row
    given = dict(zip(COLUMNS[table], row, strict=True))
    kept = {name: storable(value) if isinstance(value, str) else value for name, value in given.items()}
    if table in SEALED and seal_of(table, given) == given["checksum"]:
        kept["checksum"] = seal_of(table, kept)
    return tuple(kept.values())
