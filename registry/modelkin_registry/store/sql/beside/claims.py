"""What is said of the registered models, and which of them a name means. Reads and writes inside its caller's transactions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelkin_indexer.results.beside import Claim
from modelkin_registry.store.sql.session import Session
from modelkin_registry.store.times import later_than
from modelkin_registry.store.words import storable

LATEST = "SELECT max(last_seen) FROM claim WHERE model = ?"
KNOWN = "SELECT id FROM claim WHERE model = ? AND kind = ? AND value = ? AND source = ?"
# Of each file what it said when it was read last: what an older reading of it said was withdrawn since.
CURRENT = """last_seen = (SELECT max(last_seen) FROM claim AS other WHERE other.model = claim.model AND other.source = claim.source)"""
OF_MODEL = f"SELECT *, {CURRENT} AS current FROM claim WHERE model = ? ORDER BY kind, value, source"  # noqa: S608
OF_ALL = f"""SELECT model.name AS name, {CURRENT} AS current, claim.* FROM claim JOIN model ON model.id = claim.model
    ORDER BY model.name, kind, value, source"""  # noqa: S608
ALIASES = """SELECT model.name AS name, coalesce(target.name, model.name) AS present,
    coalesce(target.sender, model.sender) AS sender FROM model LEFT JOIN model AS target ON target.id = model.redirect_to"""


class ClaimTable:
    """The claims of an open registry."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def note_now(self, model: int, claims: Iterable[Claim]) -> None:
        """What is said of a model at present."""
        at = later_than(self._session.value(LATEST, [model]))
        for said in claims:
            kind, value, source = map(storable, (said.kind, said.value, said.source))
            if (known := self._session.value(KNOWN, [model, kind, value, source])) is not None:
                self._session.update("claim", known, last_seen=at)
            else:
                self._session.insert("claim", model=model, kind=kind, value=value, source=source, first_seen=at, last_seen=at)

    def of_model(self, model: int) -> list[dict[str, Any]]:
        """Everything ever said of a model; `current` is False where the same file was read again and says it no longer."""
        return [{**claim, "current": bool(claim["current"])} for claim in self._session.sound("claim", OF_MODEL, [model])]

    def current(self) -> dict[str, list[Claim]]:
        """What is said of each model now, by its name."""
        found: dict[str, list[Claim]] = {}
        for row in (row for row in self._session.sound("claim", OF_ALL) if row["current"]):
            found.setdefault(row["name"], []).append(Claim(row["kind"], row["value"], row["source"]))
        return found

    def aliases(self, texts: Sequence[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """Every name, former ones too, with the present one: of what was read here, and of imported models.

        With `texts`, in small letters, those that have one of them in their names at least, in letters of either case.
        """
        found: tuple[dict[str, str], dict[str, str]] = {}, {}
        only = f" WHERE {' OR '.join(['lower(model.name) LIKE ?'] * len(texts))}" if texts else ""
        for row in self._session.rows(ALIASES + only, [f"%{text}%" for text in texts]):
            found[bool(row["sender"])][row["name"]] = row["present"]
        return found
