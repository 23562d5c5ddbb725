"""Which models are meant: conditions as people type them, `family=llama`, `parameters>1B`, `tag!=old`. All of them must hold.

Of a text `*` stands for any letters and `?` for one, and A is the same as a; nothing behind `=` means that there is none. A number may end
in k, M, G (or B), T. A date is ISO 8601 or the beginning of one (2026, 2026-11, 2026-11-28), and stands for all of its time:
`added>2026-11` begins in December.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from modelkin_indexer.errors import WrongFilter

TEXT, WORD, NUMBER, DATE = "text", "word", "number", "date"
# What can be asked for, and its kind. A word is one of a closed list, and takes no `*`.
FIELDS: dict[str, str] = {
    "name": TEXT,
    "author": TEXT,
    "family": TEXT,
    "component": WORD,
    "level": WORD,
    "quantization": TEXT,
    "adapter": TEXT,
    "parameters": NUMBER,
    "bytes": NUMBER,
    "coverage": NUMBER,
    "revisions": NUMBER,
    "added": DATE,
    "updated": DATE,
    "tag": TEXT,
    "note": TEXT,
    "license": TEXT,
    "base": TEXT,
    "origin": TEXT,
    "sender": TEXT,
}
SORTS = ("name", "author", "family", "level", "parameters", "bytes", "coverage", "revisions", "added", "updated")
SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
CONDITION = re.compile(r"([a-z]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kmgbt]?)", re.IGNORECASE | re.ASCII)
MOMENT = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\d{2}(:\d{2}(:\d{2})?)?)?)?)?", re.ASCII)
BEGINNING = "0000-01-01T00:00:00"  # what a date that is given in part begins with
LARGEST = 2**63 - 1  # whole number that a database takes; above, about is enough
LONGEST_PATTERN, MOST_STARS = 1000, 8  # a database may try each way to spread a text over the stars
EQUALS = ("=", "!=")
IS, CONTAINS = "is", "contains"  # letter by letter, where * is a star: of programs, not to be typed
WILD = "*?"


class Condition(Struct, frozen=True):
    """One condition. `value` is text as it was typed, a number, or the beginning of a stored time."""

    field: str
    relation: str
    value: str | float


Where = tuple[Condition, ...]


def parse_where(texts: Iterable[str], since: str | None = None) -> Where:
    """Conditions from texts; `since`: models that came, or got a new revision, on that date or later.

    Raises:
        WrongFilter: a field that there is none of, or a value that is not of its kind.
    """
    return (*map(_condition, texts), *([_moment("updated", ">=", since, "--since")] if since is not None else []))


def _condition(text: str) -> Condition:
    found = CONDITION.fullmatch(text)
    if found is None or found[1] not in FIELDS:
        raise WrongFilter(f"{text!r}: no condition. Give FIELD=VALUE (or != > >= < <=), FIELD one of {', '.join(FIELDS)}.")
    field, relation, value = found.groups()
    kind = FIELDS[field]
    if kind == NUMBER:
        return Condition(field, relation, _number(value, text))
    if kind == DATE:
        return _moment(field, relation, value, text)
    if relation not in EQUALS:
        raise WrongFilter(f"{text!r}: {field} is a text, which is not larger or smaller. Give {field}=VALUE or {field}!=VALUE.")
    if kind == WORD and is_pattern(value):
        raise WrongFilter(f"{text!r}: {field} takes a whole word, without * and ?.")
    if is_pattern(value) and (len(value) > LONGEST_PATTERN or value.count("*") > MOST_STARS):
        raise WrongFilter(f"{text[:80]!r}...: a pattern has at most {LONGEST_PATTERN:,} characters, and {MOST_STARS} times *. Shorten it.")
    return Condition(field, relation, value)


def _number(value: str, text: str) -> float:
    found = QUANTITY.fullmatch(value)
    if found is None:
        raise WrongFilter(f"{text[:200]!r}: {value[:200]!r} is no number. Give digits, with k, M, G (or B) or T behind them.")
    from decimal import Decimal  # for conditions on sizes alone

    exact = Decimal(found[1]) * SUFFIXES.get(found[2].lower(), 1)
    return int(exact) if exact == exact.to_integral_value() and exact <= LARGEST else float(exact)


def _moment(field: str, relation: str, value: str, text: str) -> Condition:
    if MOMENT.fullmatch(value) is None or not _is_time(value):
        raise WrongFilter(f"{text!r}: {value!r} is no date. Give one as 2026-11-28, or the beginning of one.")
    return Condition(field, relation, value.replace(" ", "T"))


def _is_time(value: str) -> bool:
    """Whether there is a time that begins so: no month 13."""
    try:
        datetime.fromisoformat(value + BEGINNING[len(value) :])
    except ValueError:
        return False
    return True


def is_pattern(text: str) -> bool:
    """Whether a text stands for several."""
    return any(letter in text for letter in WILD)
