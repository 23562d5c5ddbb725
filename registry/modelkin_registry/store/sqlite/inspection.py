"""The registry's SQLite file looked at as a whole, for the doctor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelkin_registry.store.records import KeptFingerprint
from modelkin_registry.store.sqlite.marks import SEALED
from modelkin_registry.store.sqlite.session import Session, seal_of

ORPHANS = {
    "models without a revision": "SELECT name FROM model WHERE redirect_to IS NULL AND id NOT IN (SELECT model FROM revision)",
    "revisions without a fingerprint": "SELECT id FROM revision WHERE id NOT IN (SELECT revision FROM fingerprint)",
    "fingerprints without their bytes": "SELECT id FROM fingerprint WHERE id NOT IN (SELECT fingerprint FROM blob)",
    "revisions without a source": "SELECT id FROM revision WHERE id NOT IN (SELECT revision FROM source)",
    "models with a time that is none": "SELECT name FROM model WHERE julianday(added) IS NULL",
    "revisions with a time that is none": """SELECT id FROM revision WHERE julianday(added) IS NULL
        OR id IN (SELECT revision FROM source WHERE julianday(first_seen) IS NULL OR julianday(last_seen) IS NULL)""",
    "former names of former names": "SELECT name FROM model WHERE redirect_to IN (SELECT id FROM model WHERE redirect_to IS NOT NULL)",
}
FINGERPRINTS = """SELECT fingerprint.id AS fingerprint, revision.id AS revision,
    model.name || CASE WHEN revision.id = (SELECT max(id) FROM revision AS newest WHERE newest.model = model.id) THEN ''
    ELSE '@' || substr(content, instr(content, '-') + 1, 8) END AS name, level, spec, key, coverage,
    parameters, bytes_total, config, about, content, digest, bytes AS size, data,
    fingerprint.id = (SELECT fingerprint FROM searched WHERE searched.revision = revision.id) AS searched
    FROM fingerprint JOIN blob ON blob.fingerprint = fingerprint.id JOIN revision ON revision.id = fingerprint.revision
    JOIN model ON model.id = revision.model ORDER BY fingerprint.id"""


class Inspection:
    """Everything in an open registry, damage included. Raises RegistryError where it cannot be looked at."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def damage(self) -> Iterator[str]:
        """What is wrong with the file as SQLite sees it."""
        yield from (line for (line,) in self._session.each("PRAGMA integrity_check") if line != "ok")
        for table in SEALED:
            for row in self._session.each(f"SELECT * FROM {table}"):  # noqa: S608
                if seal_of(table, dict(row)) != row["checksum"]:
                    yield f"row {row[0]} of table {table} is not what was stored"

    def lost_references(self) -> Iterator[str]:
        """Rows that refer to rows which are not there."""
        for row in self._session.each("PRAGMA foreign_key_check"):
            yield f"row {row['rowid']} of table {row['table']} refers to a missing row of {row['parent']}"

    def orphans(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Things without what belongs to them: what they are, and their names or numbers."""
        for what, statement in ORPHANS.items():
            if found := [str(name) for name in self._session.column(statement)]:
                yield what, found

    def fingerprints(self) -> Iterator[KeptFingerprint]:
        """Every stored fingerprint with its bytes."""
        for row in self._session.each(FINGERPRINTS):
            yield KeptFingerprint(**dict(row) | {"searched": bool(row["searched"])})
