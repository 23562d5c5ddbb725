"""Conditions as SQL that both engines take: which revisions they mean, and in which order. See `store/filters.py`."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from modelkin_indexer.results.beside import LINEAGE_KINDS
from modelkin_registry.store.filters import CONTAINS, DATE, FIELDS, IS, NUMBER, WILD, WORD, Condition, is_pattern
from modelkin_registry.store.sql.beside.claims import CURRENT
from modelkin_registry.store.words import storable

CURRENT_REVISION = "facet.revision = (SELECT max(id) FROM revision AS other WHERE other.model = facet.model)"
MATCHED = "FROM facet JOIN model ON model.id = facet.model"
# The same with the models looked at first, in the order of one of their indexes: SQLite takes the tables as they stand.
BY_MODEL = "FROM model CROSS JOIN facet WHERE facet.model = model.id AND"
OF_MODELS = ("name", "author", "added", "sender")  # what a model is chosen and sorted by without its facets
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


def current(conditions: Sequence[Condition], sort: str = "name") -> Said:
    """What stands behind SELECT for the current revisions that meet the conditions, up to ORDER BY, and its values."""
    text, values = where(conditions)
    by_model = sort in OF_MODELS and _of_models(conditions)
    return f"{BY_MODEL if by_model else f'{MATCHED} WHERE'} {CURRENT_REVISION} AND {text}", values


def counted(conditions: Sequence[Condition]) -> Said:
    """What stands behind SELECT count(*) for the models whose current revisions meet the conditions, and its values."""
    if not _of_models(conditions):
        return current(conditions)
    text, values = where(conditions)
    return f"FROM model WHERE model.redirect_to IS NULL AND {text}", values


def _of_models(conditions: Sequence[Condition]) -> bool:
    return all(one.field in OF_MODELS for one in conditions)


def ordered(sort: str, reverse: bool, first: str = "") -> Said:
    """What stands behind ORDER BY, and its values: texts from A, numbers and dates from the largest, `reverse` the other way; ties by name.

    `first`: models that are called so come before all others, then those whose names begin so.
    """
    falls = (FIELDS[sort] in (NUMBER, DATE)) != reverse
    last = " NULLS LAST" if sort == "parameters" else ""  # what is not known, either way
    said = f"{OWN[sort]} {'DESC' if falls else 'ASC'}{last}" + ("" if sort == "name" else ", model.name")
    if not first:
        return said, []
    small = _small(first)
    begins = r"lower(model.name) LIKE ? ESCAPE '\'"
    return f"CASE WHEN lower(model.name) = ? THEN 0 WHEN {begins} THEN 1 ELSE 2 END, {said}", [small, f"{_literally(small)}%"]


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
    if one.relation == IS:
        return "instr(lower(facet.components), ?) > 0", [f",{_small(str(one.value))},"]
    text, values = _alike("facet.components", f"*,{one.value},*")
    return (f"NOT ({text})" if one.relation == "!=" else text), values


def _number(one: Condition) -> Said:
    return f"{OWN[one.field]} {one.relation} ?", [one.value]


def _date(one: Condition) -> Said:
    """Times are held against as much of them as was given."""
    return f"substr({OWN[one.field]}, 1, {len(str(one.value))}) {one.relation} ?", [one.value]


def _text(one: Condition) -> Said:
    own, value = OWN[one.field], str(one.value)
    if value == "":
        return f"{own} {one.relation} ''", []
    if one.relation == CONTAINS:
        return f"instr(lower({own}), ?) > 0", [_small(value)]
    literal = one.relation == IS or not is_pattern(value)
    if one.field == "author" and one.relation != "!=" and literal:
        return _written_by(_small(value))
    if one.relation == IS:
        return f"lower({own}) = ?", [_small(value)]
    text, values = _alike(own, value)
    return (f"NOT ({text})" if one.relation == "!=" else text), values


def _written_by(author: str) -> Said:
    """As a range of the index over names."""
    if "/" in author:
        return "1 = 0", []
    return "lower(model.name) >= ? AND lower(model.name) < ?", [f"{author}/", f"{author}0"]  # 0 comes next after /


def _alike(column: str, pattern: str) -> Said:
    """A text that is this, or of this pattern."""
    wanted = _small(pattern)
    if not is_pattern(wanted):
        return f"lower({column}) = ?", [wanted]
    return rf"lower({column}) LIKE ? ESCAPE '\'", [wanted.translate(LIKE)]


def _small(text: str) -> str:
    return storable(text).translate(SMALL)


def _literally(text: str) -> str:
    """A text as LIKE takes it for itself."""
    return text.translate({letter: said for letter, said in LIKE.items() if chr(letter) not in WILD})


KINDS: dict[str, Callable[[Condition], Said]] = {NUMBER: _number, DATE: _date, WORD: _text}
