"""What a request asks for, out of its query: checked, and refused with what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from modelkin.serving.incoming.refusals import Refusal
from modelkin.serving.working.catalogue import MOST_SHOWN, SORTS, Wanted
from modelkin_registry.store.records import MAX_NAME

LONGEST = 200  # characters of a word that is searched for
LARGEST = 10**18
DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")
LEVELS = ("probe", "full")


def name_in(query: Mapping[str, str], field: str = "name") -> str:
    """The name of a model. Raises Refusal where there is none, or one that no model can have."""
    name = query.get(field, "").strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Refusal(400, "UsageError", f"{field}: give the name of a registered model, of 1 to {MAX_NAME} printable characters")
    return name


def require_known(query: Mapping[str, str], fields: Collection[str]) -> None:
    """Refuse what would be passed over in silence, as a page that is asked for by a number of its own. Raises Refusal."""
    for field in query:
        if field not in fields:
            known = ", ".join(fields) or "none"
            raise Refusal(400, "UsageError", f"{field[:20]!r} is no field of this address. Those are: {known}")


def wanted_in(query: Mapping[str, str]) -> Wanted:
    """Which models are wanted. Raises Refusal."""
    texts = {field: query.get(field, "").strip() for field in ("text", "author", "component", "level", "sender", "since")}
    for field, value in texts.items():
        if len(value) > LONGEST:
            raise Refusal(400, "UsageError", f"{field}: longer than {LONGEST} characters")
    if texts["level"] not in ("", *LEVELS):
        raise Refusal(400, "UsageError", f"level {texts['level']!r}: it is one of {', '.join(LEVELS)}")
    if texts["since"] and not DAY.fullmatch(texts["since"]):
        raise Refusal(400, "UsageError", f"since {texts['since']!r}: it is a date, as 2026-01-31")
    sort = query.get("sort", "") or SORTS[0]
    if sort not in SORTS:
        raise Refusal(400, "UsageError", f"sort {sort!r}: it is one of {', '.join(SORTS)}")
    least, most = (_number(query, field) for field in ("least", "most"))
    count = _number(query, "count")
    return Wanted(**texts, least=least, most=most, sort=sort, start=_number(query, "start") or 0, count=min(count or 50, MOST_SHOWN))


def _number(query: Mapping[str, str], field: str) -> int | None:
    given = query.get(field, "").strip()
    if not given:
        return None
    if not given.isdecimal() or not given.isascii() or len(given) > 18:
        raise Refusal(400, "UsageError", f"{field} {given[:20]!r}: it is a whole number from 0 to {LARGEST:,}")
    return int(given)
