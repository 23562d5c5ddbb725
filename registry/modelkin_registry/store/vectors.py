"""The table of search rows inside the store: one record a model, kind and component. Derived from fingerprints, source of the index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.rows import ROW, Array, EncodedRows, row_bytes

BATCH_RECORDS = 4096  # records read at once: a few MB of sums, or about 4 MB of layer codes of 32-layer models
CHANGED_MODELS = "SELECT DISTINCT model FROM change WHERE seq > ? AND what != 'rename'"  # whose rows may differ; a name is not in them


@dataclass(frozen=True)
class TableRows:
    """Rows of one kind: `models` int64 (n,), `components` int16 codes (n,), `layers` int16 (n,), `data` uint8 (n, row_bytes)."""

    models: Array
    components: Array
    layers: Array
    data: Array

    def __len__(self) -> int:
        return len(self.models)

    def labels(self) -> Array:
        """Each row's model, component and layer as an array of ROW."""
        labels = np.empty(len(self), ROW)
        labels["model"], labels["component"], labels["layer"] = self.models, self.components, self.layers
        return labels


class VectorTable:
    """Reads and writes inside whatever transaction the store has open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._codes: dict[str, int] = {}

    def kinds(self) -> dict[str, int]:
        """Every kind ever stored and its numbers a row."""
        return dict(self._connection.execute("SELECT name, dims FROM kind ORDER BY name").fetchall())

    def component_code(self, name: str) -> int:
        """The number that stands for a component in TableRows of this table."""
        return self._codes.setdefault(name, len(self._codes))

    def component_names(self) -> Array:
        """Names by code."""
        return np.array([*self._codes], dtype=np.str_) if self._codes else np.array([""])

    def replace(self, model: int, fingerprint: int, rows: Sequence[EncodedRows]) -> None:
        """Make these the model's rows.

        Raises:
            ValueError: two of one kind and component, or a kind with another number of dimensions than stored before.
        """
        self._check_kinds(rows)
        connection = self._connection
        connection.execute("DELETE FROM vector WHERE model = ?", [model])
        connection.executemany(
            "INSERT INTO vector (kind, model, component, fingerprint, layers, data) VALUES (?, ?, ?, ?, ?, ?)",
            [(row.kind, model, row.component, fingerprint, row.layers.tobytes(), row.data.tobytes()) for row in rows if len(row.layers)],
        )

    def _check_kinds(self, rows: Sequence[EncodedRows]) -> None:
        if len({(row.kind, row.component) for row in rows}) != len(rows):
            raise ValueError("rows of one kind and component were given twice")
        known = self.kinds()
        for row in rows:
            if known.setdefault(row.kind, row.dims) != row.dims:
                raise ValueError(f"rows of kind {row.kind!r} have {row.dims} numbers, in this registry they have {known[row.kind]}")
        self._connection.executemany("INSERT OR IGNORE INTO kind (name, dims) VALUES (?, ?)", [(row.kind, row.dims) for row in rows])

    def of_model(self, model: int) -> list[tuple[str, str, int, bytes, bytes]]:
        """The model's records: kind, component, fingerprint, layers, data."""
        statement = "SELECT kind, component, fingerprint, layers, data FROM vector WHERE model = ? ORDER BY kind, component"
        return self._connection.execute(statement, [model]).fetchall()

    def batches(self, kind: str, dims: int, *, since: int = 0) -> Iterator[TableRows]:
        """Rows of one kind, by model and component: of all models, or of those changed after change number `since`."""
        changed = f"AND model IN ({CHANGED_MODELS})" if since else ""
        statement = f"SELECT model, component, layers, data FROM vector WHERE kind = ? {changed} ORDER BY model, component"  # noqa: S608
        cursor = self._connection.execute(statement, [kind, since] if since else [kind])
        while records := cursor.fetchmany(BATCH_RECORDS):
            yield self._gathered(records, row_bytes(kind, dims), kind)

    def _gathered(self, records: list[tuple[Any, ...]], width: int, kind: str) -> TableRows:
        models, components, layers, data = zip(*records, strict=True)
        counts = np.fromiter(map(len, layers), np.int64, len(records)) // 2
        if np.any(np.fromiter(map(len, data), np.int64, len(records)) != counts * width):
            raise RegistryError(f"search rows of kind {kind!r} are damaged. Make them anew with `modelkin doctor --repair`.")
        codes = {name: self.component_code(name) for name in sorted(set(components))}
        return TableRows(
            models=np.repeat(np.array(models, np.int64), counts),
            components=np.repeat(np.fromiter(map(codes.__getitem__, components), np.int16, len(records)), counts),
            layers=np.frombuffer(b"".join(layers), "<i2"),
            data=np.frombuffer(b"".join(data), np.uint8).reshape(-1, width),
        )
