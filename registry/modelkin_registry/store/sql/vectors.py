"""The table of search rows: one record a revision, kind and component. Derived from fingerprints, source of the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.records import VectorRecord
from modelkin_registry.store.rows import Array, EncodedRows, TableRows, checksum, row_bytes
from modelkin_registry.store.sql.session import DOCTOR, Row, Session

BATCH_RECORDS = 4096  # records read at once: a few MB of sums, or about 4 MB of layer codes of 32-layer models
CHANGED = "SELECT DISTINCT revision FROM change WHERE seq > ? AND revision IS NOT NULL"  # whose rows may differ; a name is not in them
RECORDS = "SELECT kind, revision, component, fingerprint, layers, data, checksum FROM vector"  # by name: a damaged one is an error then
OF_REVISION = f"{RECORDS} WHERE revision = ? ORDER BY kind, component"
OF_KIND = f"{RECORDS} WHERE kind = ? ORDER BY revision, component"
CHANGED_OF_KIND = f"""{RECORDS} WHERE kind = ? AND revision IN ({CHANGED})
    ORDER BY revision, component"""
NEW = "INSERT INTO vector (kind, revision, component, fingerprint, layers, data, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"

NEW_KIND = "INSERT INTO kind (name, dims, checksum) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING"


class VectorTable:
    """Reads and writes inside whatever transaction the store has open."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._codes: dict[str, int] = {}

    def kinds(self) -> dict[str, int]:
        """Every kind ever stored and its numbers a row."""
        found = self._session.rows("SELECT name, dims, checksum FROM kind ORDER BY name")
        if any(checksum(row["name"], row["dims"]) != row["checksum"] for row in found):
            raise RegistryError(f"{self._session.name}: the kinds of search rows are damaged. {DOCTOR}.")
        return {row["name"]: row["dims"] for row in found}

    def component_code(self, name: str) -> int:
        """The number that stands for a component in TableRows of this table."""
        return self._codes.setdefault(name, len(self._codes))

    def component_names(self) -> Array:
        """Names by code."""
        return np.array([*self._codes], dtype=np.str_) if self._codes else np.array([""])

    def replace(self, revision: int, fingerprint: int, rows: Sequence[EncodedRows]) -> None:
        """Make these the revision's rows.

        Raises:
            ValueError: two of one kind and component, or a kind with another number of dimensions than stored before.
        """
        self._check_kinds(rows)
        self._session.run("DELETE FROM vector WHERE revision = ?", [revision])
        self._session.run_many(NEW, [_record(revision, fingerprint, row) for row in rows if len(row.layers)])

    def _check_kinds(self, rows: Sequence[EncodedRows]) -> None:
        if len({(row.kind, row.component) for row in rows}) != len(rows):
            raise ValueError("rows of one kind and component were given twice")
        known = self.kinds()
        for row in rows:
            if known.setdefault(row.kind, row.dims) != row.dims:
                raise ValueError(f"rows of kind {row.kind!r} have {row.dims} numbers, in this registry they have {known[row.kind]}")
        self._session.run_many(NEW_KIND, [(row.kind, row.dims, checksum(row.kind, row.dims)) for row in rows])

    def of(self, revision: int) -> list[VectorRecord]:
        """A revision's records, by kind and component."""
        found = self._session.rows(OF_REVISION, [revision])
        return [VectorRecord(r["kind"], r["component"], r["fingerprint"], r["layers"], r["data"], _is_sound(r)) for r in found]

    def batches(self, kind: str, dims: int, *, since: int = 0) -> Iterator[TableRows]:
        """Rows of one kind, by revision and component: of all, or of those changed after change number `since`. Raises RegistryError."""
        records = self._session.each(CHANGED_OF_KIND, [kind, since]) if since else self._session.each(OF_KIND, [kind])
        for batch in _batched(records, BATCH_RECORDS):
            yield self._gathered(batch, row_bytes(kind, dims), kind)

    def _gathered(self, records: Sequence[Row], width: int, kind: str) -> TableRows:
        is_whole = all(_is_sound(row) and len(row["data"]) * 2 == len(row["layers"]) * width for row in records)
        if not is_whole:
            raise RegistryError(f"{self._session.name}: search rows of kind {kind!r} are damaged. Make them anew with `modelkin doctor`.")
        layers, data = [row["layers"] for row in records], [row["data"] for row in records]
        components, total = [row["component"] for row in records], len(records)
        counts = np.fromiter(map(len, layers), np.int64, total) // 2
        codes = {name: self.component_code(name) for name in sorted(set(components))}
        return TableRows(
            revisions=np.repeat(np.array([row["revision"] for row in records], np.int64), counts),
            components=np.repeat(np.fromiter(map(codes.__getitem__, components), np.int16, total), counts),
            layers=np.frombuffer(b"".join(layers), "<i2"),
            data=np.frombuffer(b"".join(data), np.uint8).reshape(-1, width),
        )


def _record(revision: int, fingerprint: int, row: EncodedRows) -> tuple[object, ...]:
    layers, data = row.layers.tobytes(), row.data.tobytes()
    return row.kind, revision, row.component, fingerprint, layers, data, checksum(row.kind, revision, row.component, layers, data)


def _is_sound(row: Row) -> bool:
    values = [row[name] for name in ("kind", "revision", "component", "layers", "data")]
    return all(map(isinstance, values, (str, int, str, bytes, bytes))) and checksum(*values) == row["checksum"]


def _batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of at most so many."""
    while batch := list(islice(rows, size)):
        yield batch
