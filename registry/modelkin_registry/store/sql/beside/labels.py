"""Tags and notes: the maintainers' own words on their models. Reads and writes inside its caller's transactions."""

from __future__ import annotations

import json
from collections.abc import Iterable

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.filters import WILD
from modelkin_registry.store.sql.session import Session
from modelkin_registry.store.times import now
from modelkin_registry.store.words import storable

MAX_TAG, MAX_NOTE = 64, 4096  # characters
OF_MODELS = "SELECT * FROM tag WHERE model IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY model, name"
NOTES_OF = "SELECT * FROM note WHERE model IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY model"


class LabelTable:
    """The tags and notes of an open registry."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def tag(self, model: int, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Give a model tags, and take others from it. Raises RegistryError for what can be no tag; one that is not there is no error."""
        for name in map(self._checked, remove):
            self._session.run("DELETE FROM tag WHERE model = ? AND name = ?", [model, name])
        for name in map(self._checked, add):
            if self._session.value("SELECT 1 FROM tag WHERE model = ? AND name = ?", [model, name]) is None:
                self._session.insert("tag", model=model, name=name, added=now())

    def _checked(self, name: str) -> str:
        wrong = not name or len(name) > MAX_TAG or not name.isprintable() or any(one.isspace() or one in WILD for one in name)
        if wrong or name[0] in "+-":
            raise RegistryError(
                f"{self._session.name}: {name!r} cannot be a tag. Give 1 to {MAX_TAG} printable characters without spaces, * and ?, "
                "and no + or - at its beginning."
            )
        return name

    def note(self, model: int, text: str) -> None:
        """Put this note on a model in the place of the one that it had; "" takes it away. Raises RegistryError if it is too long."""
        if len(text) > MAX_NOTE:
            raise RegistryError(f"{self._session.name}: a note of {len(text):,} characters; {MAX_NOTE:,} are the most. Shorten it.")
        self._session.run("DELETE FROM note WHERE model = ?", [model])
        if text:
            self._session.insert("note", model=model, text=storable(text), noted=now())

    def tags(self, models: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """The tags of those models that have any, by name."""
        found: dict[int, tuple[str, ...]] = {}
        for row in self._session.sound("tag", OF_MODELS, [json.dumps(list(models))]):
            found[row["model"]] = (*found.get(row["model"], ()), row["name"])
        return found

    def notes(self, models: Iterable[int]) -> dict[int, str]:
        """The notes of those models that have one."""
        return {row["model"]: row["text"] for row in self._session.sound("note", NOTES_OF, [json.dumps(list(models))])}
