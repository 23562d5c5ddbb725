"""The words of a page in one language: tables of `modelkin_data/texts`, one file a language."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from msgspec import Struct

from modelkin.reporting.languages import LANGUAGES
from modelkin_indexer.errors import ReportError


class Texts(Struct, frozen=True):
    """One language's words. `special` and `answers` are sentences that English has from the answer itself, so its table has none."""

    language: str
    table: dict[str, Any]

    def __call__(self, group: str, name: str, /, **values: Any) -> str:
        """A text with its values put in. Raises KeyError for a text that there is none of."""
        text: str = self.table[group][name]
        return text.format(**{key: shown(value) for key, value in values.items()}) if values else text

    def known(self, group: str, name: str) -> str:
        """A word that a table translates, else the word itself."""
        return str(self.table.get(group, {}).get(name, name))

    @property
    def is_english(self) -> bool:
        return self.language == "en"


@cache
def texts_of(language: str) -> Texts:
    """The table of a language. Raises ReportError for one that there is no table of."""
    if language not in LANGUAGES:
        raise ReportError(f"language {language!r}: it is one of {', '.join(LANGUAGES)}.")
    table = json.loads((files("modelkin_data") / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    return Texts(table.pop("language"), table)


def shown(value: Any) -> str:
    """A name as it may be shown: on one line, control and direction characters written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
