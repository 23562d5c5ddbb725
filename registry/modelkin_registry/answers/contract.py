"""What a question returns: plain values that the command line prints and scripts read (fields as in the JSON contract)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONTRACT = 1


@dataclass(frozen=True)
class FamilyEvidence:
    """One family of one component against its counterpart. `r` is in [-1, 1]; None where it could not be computed.

    `roles` maps each role to its mean r; `layers` lists [query layer, relative layer, r] for the heat strip.
    """

    family: str
    channel: str
    r: float | None
    null_mean: float | None
    null_sd: float | None
    z: float | None
    p_value: float | None
    places: int
    parameters: int
    informative: bool
    inherited: bool
    raw_cosine: float | None = None
    raw_cosine_floor: float | None = None
    channels: dict[str, float | None] = field(default_factory=dict)
    component: str = ""
    roles: dict[str, float] = field(default_factory=dict)
    layers: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True)
class ComponentEvidence:
    """One component of the query against one component of the relative. `changes`: what was done to it, in sentences."""

    query: str
    relative: str
    relation: str
    shared: float
    layer_map: tuple[tuple[int, int], ...]
    families: tuple[FamilyEvidence, ...]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relative:
    """One registered model as an answer to a query.

    `sampled`: one side was read at level probe only. `quantization`: where the relation is `quantized`, side ("query" or "relative") -> how
    it stores its weights. `declared`: the relation is what an adapter's file says, which its weights cannot show.
    """

    model: str
    relation: str
    also: tuple[str, ...]
    shared: float
    p_value: float | None
    components: tuple[ComponentEvidence, ...]
    source: str = ""
    sampled: bool = False
    quantization: dict[str, str] = field(default_factory=dict)
    declared: bool = False


@dataclass(frozen=True)
class WeighedClaim:
    """A declared model beside what weights show of it. `model`: the registered one that is meant, None where none is.

    `verdict` is "consistent", "nothing", "not comparable", "not registered", or of an adapter's base "not measurable".
    """

    kind: str
    value: str
    source: str
    model: str | None
    relation: str | None
    verdict: str


@dataclass(frozen=True)
class Contradiction:
    """Where what is claimed and what weights show differ. `kind`: "claims none", "claims another" or "claims another relation".

    `claim` and `source` say what is claimed and where (None where nothing is); `model` and `relation` what the weights show.
    """

    kind: str
    claim: str | None
    source: str | None
    model: str
    relation: str
    sentence: str


@dataclass(frozen=True)
class Passage:
    """Code that two models' repositories have in common: a file and its first and last lines on either side."""

    file: str
    lines: tuple[int, int]
    relative_file: str
    relative_lines: tuple[int, int]


@dataclass(frozen=True)
class StructureBeside:
    """What lies beside the weights of two models. Shown apart, never a reason for a relation. None where a side has nothing of the kind.

    `config` has the fields that both have: those that agree, and those that differ with both values. `vocabulary_overlap` is the estimated
    share of tokens in both among those in either. `code` is the share of the query's code that the relative's has too, `code_elsewhere` the
    share of that which other registered models have as well: a common template. `licence` is "same", "changed" or "different".
    """

    model: str
    config_agrees: tuple[str, ...]
    config_differs: dict[str, tuple[Any, Any]]
    vocabulary_overlap: float | None
    code: float | None
    code_elsewhere: float | None
    passages: tuple[Passage, ...]
    licence: str | None
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueryAnswer:
    """The answer to "what is this closest to?". `query` and `registry` are the contract's small objects."""

    query: dict[str, Any]
    registry: dict[str, Any]
    relatives: tuple[Relative, ...]
    merge: dict[str, Any] | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    claims: tuple[WeighedClaim, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    structure: tuple[StructureBeside, ...] = ()
    contract: int = CONTRACT


@dataclass(frozen=True)
class DecomposeAnswer:
    """The answer to "what is in this merge, and in what proportion?". `merge` is None unless it is one; `fit` is the same object for
    parents that were named, merge or not; `recipe` is mergekit's YAML where one makes such a model again."""

    query: dict[str, Any]
    registry: dict[str, Any] | None
    merge: dict[str, Any] | None
    fit: dict[str, Any] | None
    recipe: str | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    contract: int = CONTRACT


@dataclass(frozen=True)
class Control:
    """How far a third model is from both sides of a comparison."""

    model: str
    a_c: tuple[FamilyEvidence, ...]
    b_c: tuple[FamilyEvidence, ...]


@dataclass(frozen=True)
class CompareAnswer:
    """The answer to "is A made from B?"."""

    a: dict[str, Any]
    b: dict[str, Any]
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
    contract: int = CONTRACT


@dataclass(frozen=True)
class Added:
    """What became of one source given to `add`."""

    source: str
    model: str
    status: str
    reason: str | None
    level: str
    spec: str
    key: str
    parameters: int | None
    coverage: float | None
    unplaced: tuple[str, ...]
    components: tuple[str, ...]
    bytes_total: int | None
    bytes_read: int | None
    fingerprint_bytes: int | None
    seconds: float
    contract: int = CONTRACT


@dataclass(frozen=True)
class ListedModel:
    """One line of `list`. `sender`: the file that brought an imported model, "" for what was read here."""

    model: str
    level: str
    parameters: int
    components: tuple[str, ...]
    added: str
    source: str
    revisions: int
    sender: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing `doctor` looked at. `state` is "ok", "repaired" or "broken"."""

    check: str
    state: str
    detail: str
