"""Conditions as SQL that both engines take: which revisions they mean, and in which order. See `store/filters.py`."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from modelkin_indexer.results.beside import LINEAGE_KINDS
from modelkin_registry.store.filters import DATE, FIELDS, NUMBER, WORD, Condition, is_pattern
from modelkin_registry.store.sql.beside.claims import CURRENT
from modelkin_registry.store.words import storable

CURRENT_REVISION = "facet.revision = (SELECT max(id) FROM revision AS other WHERE other.model = facet.model)"
MATCHED = "FROM facet JOIN model ON model.id = facet.model"
AUTHOR = "CASE WHEN model.name LIKE '%/%' THEN substr(model.name, 1, instr(model.name, '/') - 1) ELSE '' END"
BASES = ", ".join(f"'{kind}'" for kind in LINEAGE_KINDS)
# What a field is in a row of MATCHED.
OWN = {
    "name": "model.name",
    "author": AUTHOR,
    "family": "facet.family",
    "level": "facet.level",
    "quantization": "facet.quantization",
    "adapter": "facet.adapter",
    "parameters": "facet.parameters",
    "bytes": "facet.bytes",
    "coverage": "facet.coverage",
    "revisions": "(SELECT count(*) FROM revision AS other WHERE other.model = facet.model)",
    "added": "model.added",
    "updated": "facet.updated",
    "sender": "model.sender",
}
# Of which there may be several: the rows, and what of them is looked at.
SEVERAL = {
    "tag": ("tag WHERE tag.model = facet.model", "tag.name"),
    "note": ("note WHERE note.model = facet.model", "note.text"),
    "license": (f"claim WHERE claim.model = facet.model AND claim.kind = 'license' AND {CURRENT}", "claim.value"),
    "base": (f"claim WHERE claim.model = facet.model AND claim.kind IN ({BASES}) AND {CURRENT}", "claim.value"),
    "origin": ("source WHERE source.revision = facet.revision AND source.origin != ''", "source.origin"),
}
SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # as both engines' lower() has it
LIKE = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_", "*": "%", "?": "_"})
Said = tuple[str, list[Any]]


def where(conditions: Sequence[Condition]) -> Said:
    """What stands behind WHERE, for rows of MATCHED, and its values."""
    said = [_said(one) for one in conditions]
    return " AND ".join(f"({text})" for text, _ in said) or "1 = 1", [value for _, values in said for value in values]


def ordered(sort: str, reverse: bool) -> str:
    """What stands behind ORDER BY: texts from A, numbers and dates from the largest, `reverse` the other way; ties by name."""
    falls = (FIELDS[sort] in (NUMBER, DATE)) != reverse
    first = f"{OWN[sort]} IS NULL, " if sort == "parameters" else ""  # what is not known comes last, either way
    return f"{first}{OWN[sort]} {'DESC' if falls else 'ASC'}" + ("" if sort == "name" else ", model.name")


def _said(one: Condition) -> Said:
    if one.field == "component":
        return _component(one)
    if one.field in SEVERAL:
        rows, what = SEVERAL[one.field]
        if one.value == "":
            return f"{'NOT ' if one.relation == '=' else ''}EXISTS (SELECT 1 FROM {rows})", []  # noqa: S608
        text, values = _alike(what, str(one.value))
        return f"{'NOT ' if one.relation == '!=' else ''}EXISTS (SELECT 1 FROM {rows} AND {text})", values  # noqa: S608
    return KINDS.get(FIELDS[one.field], _text)(one)


def _component(one: Condition) -> Said:
    if one.value == "":
        return f"facet.components {one.relation} ','", []
    text, values = _alike("facet.components", f"*,{one.value},*")
    return (f"NOT ({text})" if one.relation == "!=" else text), values


def _number(one: Condition) -> Said:
    return f"{OWN[one.field]} {one.relation} ?", [one.value]


def _date(one: Condition) -> Said:
    """Times are held against as much of them as was given."""
    return f"substr({OWN[one.field]}, 1, {len(str(one.value))}) {one.relation} ?", [one.value]


def _text(one: Condition) -> Said:
    own = OWN[one.field]
    if one.value == "":
        return f"{own} {one.relation} ''", []
    text, values = _alike(own, str(one.value))
    return (f"NOT ({text})" if one.relation == "!=" else text), values


def _alike(column: str, pattern: str) -> Said:
    """A text that is this, or of this pattern."""
    wanted = storable(pattern).translate(SMALL)
    if not is_pattern(wanted):
        return f"lower({column}) = ?", [wanted]
    return rf"lower({column}) LIKE ? ESCAPE '\'", [wanted.translate(LIKE)]


KINDS: dict[str, Callable[[Condition], Said]] = {NUMBER: _number, DATE: _date, WORD: _text}
