"""The policy that a batch is screened by: a TOML file, read strictly, so that a slip of the pen never weakens a rule."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from modelkin_indexer.errors import WrongLine
from modelkin_registry.answers.parts import AUDITED
from modelkin_registry.screening.declared import ANY
from modelkin_registry.screening.lines import line_of, line_of_error
from modelkin_registry.screening.results import OUTCOMES
from modelkin_registry.screening.rules import ACTIONS, RULES

VERSION = 1  # of this schema
DECLARED = "declared"  # `bases.allowed`: whatever a submission says that it was made from


class Policy(Struct, frozen=True):
    """What each rule does, and by which numbers.

    fail_on        outcomes that end the call with exit code 1
    rate           false-discovery rate over the batch
    least_examined share of the informative weights that must have been held against a registered model
    part           share of the informative weights from which a component that was compared with nothing matters
    unread         share of the bytes that may be left unread
    allowed        models that submissions may be made from; None: those that they declare
    must_declare   whether what is allowed has to be declared as well
    folder_claims  whether a base that the submission's own files name counts as declared
    parts          component -> models that it may come from without being declared
    licences       licences that models may have from which a submission is made; empty: any
    keep           licences that a submission has to have as well if what it was made from has them
    audit          codes of audit findings that count
    actions        rule -> what it does
    """

    name: str
    digest: str
    fail_on: tuple[str, ...]
    rate: float
    least_examined: float
    part: float
    unread: float
    allowed: tuple[str, ...] | None
    must_declare: bool
    folder_claims: bool
    parts: Mapping[str, tuple[str, ...]]
    licences: tuple[str, ...]
    keep: tuple[str, ...]
    audit: tuple[str, ...]
    actions: Mapping[str, str]

    @property
    def named(self) -> tuple[str, ...]:
        """Every model that it allows by name, in whole or in part."""
        parts = (name for names in self.parts.values() for name in names)
        return tuple(dict.fromkeys(name for name in (*(self.allowed or ()), *parts) if name != ANY))


class _Wrong(ValueError):
    """A value that is none of those that a key may have; the message says which those are."""


def read_policy(text: str, where: str) -> Policy:
    """A policy from its text. Every table and every key of them is needed but those of `[parts]` and `[rules]`, which have defaults.

    Raises:
        WrongLine: no TOML, an unknown table or key, a missing one, or a value of another kind; with the line.
    """
    try:
        plain = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # no TOML, a number of thousands of digits, or lists in lists without end
        raise WrongLine(where, line_of_error(error, text), f"is no TOML: {error}") from error
    read = _Reader(text, where, plain)
    found = {(table, key): read.value(table, key) for table, keys in SCHEMA.items() for key in keys}
    allowed = found["bases", "allowed"]
    return Policy(
        name=where,
        digest="sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        fail_on=found["", "fail_on"],
        rate=found["discovery", "rate"],
        least_examined=found["examined", "least"],
        part=found["examined", "part"],
        unread=found["examined", "unread"],
        allowed=None if allowed == DECLARED else allowed,
        must_declare=found["bases", "must_be_declared"],
        folder_claims=found["bases", "folder_claims"],
        parts=read.free_table("parts", _names),
        licences=tuple(map(str.casefold, found["licences", "allowed"])),
        keep=tuple(map(str.casefold, found["licences", "keep"])),
        audit=found["audit", "codes"],
        actions={**{rule.name: rule.action for rule in RULES.values()}, **read.rules()},
    )


class _Reader:
    """The parsed file beside its text, which tells lines."""

    def __init__(self, text: str, where: str, plain: Mapping[str, Any]) -> None:
        self.text, self.where, self.plain = text, where, plain
        known = {table for table in SCHEMA if table} | {"parts", "rules"}
        for name, value in plain.items():
            if isinstance(value, dict) and name not in known:
                raise self.error(name, "", f"no table is named {name!r}: {_listed(known)}")
            if not isinstance(value, dict) and name not in SCHEMA[""]:
                raise self.error("", name, f"no key is named {name!r} here: {_listed(SCHEMA[''])}")

    def value(self, table: str, key: str) -> Any:
        values = self.table(table)
        for name in values:
            if name not in SCHEMA[table] and not (table == "" and isinstance(values[name], dict)):
                raise self.error(table, name, f"no key is named {name!r} here: {_listed(SCHEMA[table])}")
        if key not in values:
            raise self.error(table, "", f"{f'[{table}] ' if table else ''}{key} is missing")
        return self.checked(table, key, values[key], SCHEMA[table][key])

    def table(self, name: str) -> Mapping[str, Any]:
        found = self.plain.get(name, {}) if name else self.plain
        if not isinstance(found, dict):
            raise self.error("", name, f"{name} is a table: [{name}]")
        return found

    def free_table(self, table: str, check: Callable[[Any], Any]) -> dict[str, Any]:
        """A table whose keys are names of the writer's."""
        return {key: self.checked(table, key, value, check) for key, value in self.table(table).items()}

    def rules(self) -> dict[str, str]:
        for name in self.table("rules"):
            if name not in RULES:
                raise self.error("rules", name, f"no rule is named {name!r}: {_listed(RULES)}")
        return self.free_table("rules", _one_of(ACTIONS))

    def checked(self, table: str, key: str, value: Any, check: Callable[[Any], Any]) -> Any:
        try:
            return check(value)
        except _Wrong as error:
            raise self.error(table, key, f"{key} = {value!r}: it is {error}") from error

    def error(self, table: str, key: str, problem: str) -> WrongLine:
        return WrongLine(self.where, line_of(self.text, table, key), problem)


def _listed(names: Any) -> str:
    return "there are " + ", ".join(sorted(names))


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _Wrong("a share, from 0 to 1")
    return float(value)


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, float) or not 0 < value < 1:
        raise _Wrong("a rate above 0 and below 1")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise _Wrong('a list of names, as ["org/name"]' + f'; "{ANY}" stands for any')
    return tuple(value)


def _bases(value: Any) -> str | tuple[str, ...]:
    if value == DECLARED:
        return DECLARED
    try:
        return _names(value)
    except _Wrong as error:
        raise _Wrong(f'"{DECLARED}", or {error}') from error


def _version(value: Any) -> int:
    if type(value) is not int or value != VERSION:
        raise _Wrong(f"the version of the schema that this modelkin reads, {VERSION}")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise _Wrong("one of " + ", ".join(f'"{word}"' for word in words))
        return value

    return check


def _several(words: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(one in words for one in value):
            raise _Wrong("a list of these: " + ", ".join(f'"{word}"' for word in words))
        return tuple(value)

    return check


# Table -> key -> how its value is checked. "" is the top of the file.
SCHEMA: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "": {"version": _version, "fail_on": _several(OUTCOMES)},
    "discovery": {"rate": _rate},
    "examined": {"least": _share, "part": _share, "unread": _share},
    "bases": {"allowed": _bases, "must_be_declared": _flag, "folder_claims": _flag},
    "licences": {"allowed": _names, "keep": _names},
    "audit": {"codes": _several(tuple(AUDITED))},
}
