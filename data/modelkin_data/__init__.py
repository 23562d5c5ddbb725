"""Tables a person may read and correct: name patterns, backgrounds, the starter registry."""

from __future__ import annotations

import json
from collections.abc import Set
from functools import cache
from typing import Any, TypeVar

from msgspec import Struct

from modelkin_data.reading import read_text

Row = TypeVar("Row", bound=Struct)
RULE_TABLES = ("attention", "mlp", "norms", "ssm", "outside", "small")


class NameRule(Struct, frozen=True):
    """What a tensor of that name is. Rules are tried in order; the first whose name and conditions fit decides.

    name       a regular expression over a module's name in which a dot stands for itself and `{word}` for a word of words.json;
               it has to match all that follows the layer's number (scope `layer`) or a known prefix (scope `outside`)
    role       may contain `{1}`: the text of the name's capturing group
    component  condition: the name's component
    sibling    condition: another module of the same stack, or outside the stacks, has this name
    models     condition: model_type of config.json is one of these
    post_norm  condition: the component has no final norm
    axes       condition: the module's tensor with most axes has this many (a convolution over time has 3)
    layout     `conv1d`: may be stored [in, out]; `grouped`: rows of q, k and v take turns, one group of heads after the other
    residual   the side that faces the residual stream, where it does not follow from the role
    """

    scope: str
    name: str
    family: str
    role: str
    component: str = ""
    sibling: str = ""
    models: tuple[str, ...] = ()
    post_norm: bool = False
    axes: int = 0
    layout: str = ""
    residual: str = ""


class ConstantRule(Struct, frozen=True):
    """A tensor never fingerprinted. `form`: what a matrix of floats has to look like to be one (rotary, mask, scales; "": none is)."""

    name: str
    reason: str
    form: str = ""


class TableFormula(Struct, frozen=True):
    """A formula that gives fixed tables back: what is said of a table that it fits, and the kinds that it is there for."""

    formula: str
    reason: str
    kinds: tuple[str, ...]


class ComponentRule(Struct, frozen=True):
    """A name with one of these parts belongs to this component."""

    component: str
    parts: tuple[str, ...]


class PartRule(Struct, frozen=True):
    """A part of a single-file checkpoint of several models: the folder it has in a pipeline, and what stands before its tensors' names."""

    part: str
    prefixes: tuple[str, ...]


class GeneralRoom(Struct, frozen=True):
    """A module with one of these words in its name is of this family; see `about` in general.json."""

    family: str
    words: str
    unless: str = ""
    anywhere: bool = False
    outside: bool = False
    weak: bool = False


class NameTables(Struct, frozen=True):
    """All that is known about the names of tensors."""

    words: dict[str, str]
    stacks: tuple[str, ...]
    experts: tuple[str, ...]
    noise: tuple[str, ...]
    components: tuple[ComponentRule, ...]
    wrappers: tuple[str, ...]
    parts: tuple[PartRule, ...]
    down_and_up: tuple[str, ...]
    input_first: tuple[str, ...]
    interleaved_gate_up: tuple[str, ...]
    gains_less_one: tuple[str, ...]
    constants: tuple[ConstantRule, ...]
    packed: str
    rooms: tuple[GeneralRoom, ...]
    norms: str
    faces_out: str
    rules: tuple[NameRule, ...]


@cache
def name_tables() -> NameTables:
    """The tables in `names/`.

    Raises:
        ValueError: a table has an unknown key, lacks one or has one twice; the message names the table and the key.
    """
    head: dict[str, Any] = {}
    for table in ("words", "components", "parts", "layouts", "constants", "general"):
        head |= {key: value for key, value in _read(table).items() if key != "about"}
    head["components"] = _rows(ComponentRule, "components", head["components"])
    head["parts"] = _rows(PartRule, "parts", head["parts"])
    head["constants"] = _rows(ConstantRule, "constants", head["constants"])
    head["rooms"] = _rows(GeneralRoom, "general", head["rooms"])
    head["rules"] = tuple(rule for table in RULE_TABLES for rule in parse_rules(table, _read(table)))
    return _rows(NameTables, "names", [head])[0]


@cache
def table_reasons() -> dict[str, str]:
    """What is said of a fixed table, by the formula that gives it back. Raises ValueError as `name_tables` does."""
    return {row.formula: row.reason for row in table_formulas()}


def table_formulas() -> tuple[TableFormula, ...]:
    """The formulas of `fixed_tables.json`. Raises ValueError as `name_tables` does."""
    return _rows(TableFormula, "fixed_tables", _read("fixed_tables", "")["formulas"])


def parse_rules(table: str, content: dict[str, Any]) -> tuple[NameRule, ...]:
    """The rules of one table. Raises ValueError as `name_tables` does."""
    unknown = sorted(set(content) - {"about", "scope", "rules"})
    if unknown:
        raise ValueError(f"table {table}: unknown key {unknown[0]!r}. Remove it or correct its spelling.")
    return _rows(NameRule, table, [{"scope": content["scope"], **row} for row in content["rules"]])


def _rows(kind: type[Row], table: str, rows: list[dict[str, Any]]) -> tuple[Row, ...]:
    known = set(kind.__struct_fields__)
    return tuple(_row(kind, known, table, row) for row in rows)


def _row(kind: type[Row], known: Set[str], table: str, row: dict[str, Any]) -> Row:
    if not row.keys() <= known:
        unknown = sorted(set(row) - known)
        raise ValueError(f"table {table}: unknown key {unknown[0]!r} in {row}. Remove it or correct its spelling.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
    except TypeError as error:
        raise ValueError(f"table {table}: {row} lacks a key ({error}). Add it.") from error


def _read(table: str, folder: str = "names") -> dict[str, Any]:
    text = read_text(f"{folder}/{table}.json" if folder else f"{table}.json")
    content: dict[str, Any] = json.loads(text, object_pairs_hook=lambda pairs: _once(table, pairs))
    return content


def _once(table: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"table {table}: a key stands twice in {sorted(key for key, _ in pairs)}. Keep one.")
    return content
