"""What is said of the registered models, and which of them a name means. Reads and writes inside its caller's transactions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from modelkin_indexer.results.beside import Claim
from modelkin_registry.store.opening import now

NOTED = """INSERT INTO claim (model, kind, value, source, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (model, kind, value, source) DO UPDATE SET last_seen = excluded.last_seen"""
# Of each file what it said when it was read last: what an older reading of it said was withdrawn since.
CURRENT = """last_seen = (SELECT max(last_seen) FROM claim AS other WHERE other.model = claim.model AND other.source = claim.source)"""
OF_MODEL = f"SELECT *, {CURRENT} AS current FROM claim WHERE model = ? ORDER BY kind, value, source"  # noqa: S608
OF_ALL = f"""SELECT model.name, kind, value, source FROM claim JOIN model ON model.id = claim.model WHERE {CURRENT}
    ORDER BY model.name, kind, value, source"""  # noqa: S608
ALIASES = "SELECT model.name, coalesce(target.name, model.name) FROM model LEFT JOIN model AS target ON target.id = model.redirect_to"
IDS = "SELECT id FROM model WHERE redirect_to IS NULL AND name IN (SELECT value FROM json_each(?)) ORDER BY id"


class ClaimTable:
    """The claims of an open registry."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def note(self, model: int, claims: Iterable[Claim], at: str) -> None:
        """What is said of a model at this time."""
        self.connection.executemany(NOTED, [(model, *map(storable, (c.kind, c.value, c.source)), at, at) for c in claims])

    def note_now(self, model: int, claims: Iterable[Claim]) -> None:
        """What is said of a model at present."""
        self.note(model, claims, now())

    def of_model(self, model: int) -> list[dict[str, Any]]:
        """Everything ever said of a model; `current` is False where the same file was read again and says it no longer."""
        cursor = self.connection.execute(OF_MODEL, [model])
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
        return [{**claim, "current": bool(claim["current"])} for claim in found]

    def current(self) -> dict[str, list[Claim]]:
        """What is said of each model now, by its name."""
        found: dict[str, list[Claim]] = {}
        for name, *claim in self.connection.execute(OF_ALL):
            found.setdefault(name, []).append(Claim(*claim))
        return found

    def aliases(self) -> dict[str, str]:
        """Every name, former ones too, with the present one."""
        return dict(self.connection.execute(ALIASES).fetchall())

    def models_named(self, names: Iterable[str]) -> list[int]:
        """Numbers of the models that have these present names, ascending."""
        return [row[0] for row in self.connection.execute(IDS, [json.dumps(sorted(names))])]


def storable(words: str) -> str:
    """Words that SQLite can hold: a file's name may be bytes that are no text."""
    return words.encode("utf-8", "backslashreplace").decode()
