"""The table of a registry's own backgrounds. Reads and writes inside its caller's transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelkin_registry.answers.asked import Calibrated
from modelkin_registry.store.times import now

if TYPE_CHECKING:
    from modelkin_registry.answers.upkeep import OwnBackground
    from modelkin_registry.evidence.judge import Strangers
    from modelkin_registry.store.sql.session import Session

ALL = "SELECT * FROM background"


class BackgroundTable:
    """What `modelkin calibrate` measured on an open registry."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def replace(self, found: Sequence[OwnBackground], models: int) -> None:
        """Keep these and no others; none bring back the shipped defaults. `models`: how many the registry had."""
        at = now()
        self._session.run("DELETE FROM background")
        for one in found:
            numbers = {"sd": float(one.sd), "shipped": float(one.shipped), "pairs": one.pairs, "lineages": one.lineages}
            told = {"used": int(one.used), "models": models, "measured": at}
            self._session.insert("background", channel=one.channel, family=one.family, **numbers, **told)

    def used(self) -> Strangers:
        """(family, channel) -> spread between strangers, where it replaces the shipped default."""
        return {(row["family"], row["channel"]): row["sd"] for row in self._session.sound("background", ALL) if row["used"]}

    def told(self) -> Calibrated | None:
        """What an answer says of them: families measured and in use, on how many models, and when. None if never measured."""
        found = list(self._session.sound("background", ALL))
        if not found:
            return None
        used, models = sum(row["used"] for row in found), max(row["models"] for row in found)
        return Calibrated(measured_for=len(found), used=used, models=models, measured=max(row["measured"] for row in found))
