"""The table of a registry's own backgrounds. Reads and writes inside its caller's transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.evidence.judge import Strangers
from modelkin_registry.store.opening import now

COLUMNS = "channel, family, sd, shipped, pairs, lineages, used"


class BackgroundTable:
    """What `modelkin calibrate` measured on an open registry."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def replace(self, found: Sequence[OwnBackground], models: int) -> None:
        """Keep these and no others; none bring back the shipped defaults. `models`: how many the registry had."""
        at = now()
        self.connection.execute("DELETE FROM background")
        rows = [(one.channel, one.family, one.sd, one.shipped, one.pairs, one.lineages, one.used, models, at) for one in found]
        self.connection.executemany(f"INSERT INTO background ({COLUMNS}, models, measured) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    def used(self) -> Strangers:
        """(family, channel) -> spread between strangers, where it replaces the shipped default."""
        rows = self.connection.execute("SELECT family, channel, sd FROM background WHERE used").fetchall()
        return {(family, channel): sd for family, channel, sd in rows}

    def told(self) -> dict[str, Any] | None:
        """What an answer says of them: families measured and in use, on how many models, and when. None if never measured."""
        row = self.connection.execute("SELECT count(*), sum(used), max(models), max(measured) FROM background").fetchone()
        return {"measured_for": row[0], "used": row[1], "models": row[2], "measured": row[3]} if row[0] else None
