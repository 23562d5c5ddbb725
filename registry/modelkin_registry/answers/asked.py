"""The answers to questions about one or two models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelkin_registry.answers.claims import Contradiction, StructureBeside, WeighedClaim
from modelkin_registry.answers.contract import CONTRACT
from modelkin_registry.answers.evidence import ComponentEvidence, Control, Relative
from modelkin_registry.answers.parts import Counterparts, Examined, Part
from modelkin_registry.answers.plain import Plain


@dataclass(frozen=True)
class Subject(Plain):
    """A model that was asked about: where it came from, and how much of it was read and understood."""

    source: str
    level: str
    parameters: int
    coverage: float
    components: tuple[str, ...]
    guessed: float
    unplaced: tuple[str, ...]
    bytes_total: int
    bytes_read: int
    layers: dict[str, int]


@dataclass(frozen=True)
class Searched(Plain):
    """The registry that was asked. `calibrated`: what was measured on its own strangers; None if nothing was."""

    models: int
    spec: str
    key: str
    calibrated: dict[str, Any] | None


@dataclass(frozen=True)
class QueryAnswer(Plain):
    """The answer to "what is this closest to?"."""

    query: Subject
    registry: Searched
    relatives: tuple[Relative, ...]
    merge: dict[str, Any] | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    claims: tuple[WeighedClaim, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    structure: tuple[StructureBeside, ...] = ()
    verdict: str = ""
    examined: Examined | None = None
    contract: int = CONTRACT


@dataclass(frozen=True)
class DecomposeAnswer(Plain):
    """The answer to "what is in this merge, and in what proportion?". `merge` is None unless it is one; `fit` is the same object for
    parents that were named, merge or not; `recipe` is mergekit's YAML where one makes such a model again."""

    query: Subject
    registry: Searched | None
    merge: dict[str, Any] | None
    fit: dict[str, Any] | None
    recipe: str | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    contract: int = CONTRACT


@dataclass(frozen=True)
class CompareAnswer(Plain):
    """The answer to "is A made from B?"."""

    a: Subject
    b: Subject
    relation: str
    also: tuple[str, ...]
    shared: float
    p_value: float | None
    components: tuple[ComponentEvidence, ...]
    controls: tuple[Control, ...]
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    claims: tuple[WeighedClaim, ...] = ()
    structure: StructureBeside | None = None
    exact: tuple[dict[str, Any], ...] | None = None
    exact_summary: dict[str, Any] | None = None
    aligned: dict[str, Any] | None = None
    verdict: str = ""
    examined: Examined | None = None
    compared: float = 0.0
    shared_of_all: float = 0.0
    parts: tuple[Part, ...] = ()
    alternatives: tuple[str, ...] = ()
    counterparts: Counterparts | None = None
    contract: int = CONTRACT
