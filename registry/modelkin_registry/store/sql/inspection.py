"""A registry looked at as a whole, for the doctor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from modelkin_registry.store.records import Facets, KeptFingerprint, Stored, digits_of
from modelkin_registry.store.sql.facets import OF_REVISION, read_row
from modelkin_registry.store.sql.sealed import SEALED, seal_of
from modelkin_registry.store.sql.session import Session

ORPHANS = {
    "models without a revision": "SELECT name FROM model WHERE redirect_to IS NULL AND id NOT IN (SELECT model FROM revision)",
    "revisions without a fingerprint": "SELECT id FROM revision WHERE id NOT IN (SELECT revision FROM fingerprint)",
    "fingerprints without their bytes": "SELECT id FROM fingerprint WHERE id NOT IN (SELECT fingerprint FROM blob)",
    "revisions without a source": "SELECT id FROM revision WHERE id NOT IN (SELECT revision FROM source)",
    "former names of former names": "SELECT name FROM model WHERE redirect_to IN (SELECT id FROM model WHERE redirect_to IS NOT NULL)",
}
TIMES = {
    "models with a time that is none": ("SELECT name, added FROM model ORDER BY id",),
    "revisions with a time that is none": (
        "SELECT id, added FROM revision ORDER BY id",
        "SELECT revision, first_seen, last_seen FROM source ORDER BY revision",
    ),
}
FINGERPRINTS = """SELECT fingerprint.id AS fingerprint, revision.id AS revision, model.name AS name,
    revision.id = (SELECT max(id) FROM revision AS newest WHERE newest.model = model.id) AS newest, level, spec, key, coverage,
    parameters, bytes_total, config, about, content, digest, bytes AS size, data,
    fingerprint.id = (SELECT fingerprint FROM searched WHERE searched.revision = revision.id) AS searched
    FROM fingerprint JOIN blob ON blob.fingerprint = fingerprint.id JOIN revision ON revision.id = fingerprint.revision
    JOIN model ON model.id = revision.model ORDER BY fingerprint.id"""

# Bytes by kind of row: what is behind the word, rows, bytes.
SIZES = {
    "fingerprints, level ": "SELECT level, count(*), sum(bytes) FROM fingerprint GROUP BY level",
    "search rows, ": "SELECT kind, count(*), sum(length(layers) + length(data)) FROM vector GROUP BY kind",
    "beside the weights, ": "SELECT kind, count(*), sum(length(data)) FROM structure GROUP BY kind",
    "descriptions": "SELECT '', count(*), sum(length(about)) FROM fingerprint",
    "files and configs of revisions": "SELECT '', count(*), sum(length(files) + length(config)) FROM revision",
    "sources": "SELECT '', count(*), sum(length(origin) + length(files)) FROM source",
    "claims": "SELECT '', count(*), sum(length(kind) + length(value) + length(source)) FROM claim",
    "journal of the Hub": "SELECT '', count(*), sum(length(repo) + length(reason) + length(content)) FROM hub_repo",
    "tags": "SELECT '', count(*), sum(length(name)) FROM tag",
    "notes": "SELECT '', count(*), sum(length(text)) FROM note",
    "pairs of family trees": "SELECT '', count(*), sum(length(told)) FROM kinship",
}


class Inspection(ABC):
    """Everything in an open registry, damage included. Raises RegistryError where it cannot be looked at."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def damage(self) -> Iterator[str]:
        """What is wrong with the registry as the engine sees it, and rows that are not what was stored."""
        yield from self.engine_damage()
        for table in SEALED:
            for row in self._session.each(f"SELECT * FROM {table}"):  # noqa: S608
                if not _is_sealed(table, dict(row)):
                    yield f"row {row[0]} of table {table} is not what was stored"

    @abstractmethod
    def engine_damage(self) -> Iterator[str]:
        """What is wrong as the engine sees it."""

    @abstractmethod
    def lost_references(self) -> Iterator[str]:
        """Rows that refer to rows which are not there."""

    def facets(self, revision: int) -> Facets | None:
        """What a revision is chosen by, as it is stored; None where it has none."""
        rows = self._session.dicts(OF_REVISION, [revision])
        return read_row(rows[0]) if rows else None

    def sizes(self) -> list[Stored]:
        """What the rows of each kind take, the largest first."""
        found = [
            Stored(f"{what}{row[0] or ''}", int(row[1]), int(row[2] or 0)) for what, sql in SIZES.items() for row in self._session.rows(sql)
        ]
        return sorted((one for one in found if one.rows), key=lambda one: (-one.bytes, one.kind))

    @abstractmethod
    def size(self) -> int:
        """Bytes of the whole registry on the engine's disk."""

    def orphans(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Things without what belongs to them: what they are, and their names or numbers."""
        for what, statement in ORPHANS.items():
            if found := [str(name) for name in self._session.column(statement)]:
                yield what, found
        for what, statements in TIMES.items():
            rows = [row for statement in statements for row in self._session.rows(statement)]
            if late := dict.fromkeys(str(row[0]) for row in rows if not all(map(_is_time, [*row][1:]))):
                yield what, [*late]

    def fingerprints(self) -> Iterator[KeptFingerprint]:
        """Every stored fingerprint with its bytes."""
        for row in self._session.each(FINGERPRINTS):
            values = dict(row)
            name = values["name"] if values.pop("newest") else f"{values['name']}@{digits_of(values['content'])}"
            yield KeptFingerprint(**values | {"name": name, "searched": bool(row["searched"])})


def _is_sealed(table: str, row: dict[str, Any]) -> bool:
    try:
        return bool(seal_of(table, row) == row["checksum"])
    except KeyError:  # a column has another name
        return False


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False
