"""The answers to questions about one or two models."""

from __future__ import annotations

from modelkin_registry.answers.claims import Contradiction, StructureBeside, WeighedClaim
from modelkin_registry.answers.evidence import ComponentEvidence, Control, Relative
from modelkin_registry.answers.exact import Aligned, ExactRow, ExactSummary
from modelkin_registry.answers.parts import Counterparts, Examined, Lone, Part
from modelkin_registry.answers.plain import CONTRACT, Plain

SHOWN = 10  # relatives that an answer tells of unless asked for more


class Subject(Plain, frozen=True):
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


class Calibrated(Plain, frozen=True):
    """What a registry measured on its own strangers: in how many families, how many of these are used, on how many models, and when."""

    measured_for: int
    used: int
    models: int
    measured: str


class OneOfSeveral(Plain, frozen=True):
    """One of several registries that were asked as one: its file or address, how many models it has, and what it measured on strangers."""

    name: str
    models: int
    calibrated: Calibrated | None


class Searched(Plain, frozen=True):
    """The registry that was asked. `calibrated`: what was measured on its own strangers; None if nothing was.

    Of several that were asked as one `models` are those of all, each once, and `registries` tells of each; of one there are none.
    """

    models: int
    spec: str
    key: str
    calibrated: Calibrated | None
    registries: tuple[OneOfSeveral, ...] = ()


class MergeParent(Plain, frozen=True):
    """A model that a merge was made of, and its share, with the standard error; None of a share that was counted."""

    model: str
    weight: float
    sd: float | None


class MergeWeight(Plain, frozen=True):
    """A parent's share of one part of a merge, with the standard error."""

    weight: float
    sd: float


class MergePart(Plain, frozen=True):
    """A component, layer or the norms of a merge: each parent's share of it, in the order of `Merge.parents`, and what they leave.

    `residual`: length left unexplained / the length of the part.
    """

    part: str
    component: str | None
    layer: int | None
    weights: tuple[MergeWeight, ...]
    residual: float


class Merge(Plain, frozen=True):
    """A weighted merge. Weights sum to one; `method` is None where it is none of those known.

    `rounding`: the residual that the stored type alone leaves; `complete`: no more than that is left. `base`: the model that the parents
    were trained from. `alike`: parents that are hard to tell apart; `condition`: of the equations, large where weights are unsure.
    """

    parents: tuple[MergeParent, ...]
    residual: float
    method: str | None
    rounding: float
    complete: bool
    base: str | None
    components: tuple[MergePart, ...]
    layers: tuple[MergePart, ...]
    norms: MergePart | None
    alike: tuple[tuple[str, str], ...]
    condition: float


class LayerOf(Plain, frozen=True):
    """A layer of another model."""

    model: str
    layer: int


class MergedLayer(Plain, frozen=True):
    """A layer, and the one that it is, unchanged."""

    part: str
    component: str
    layer: int
    from_: LayerOf


class MergeByLayer(Plain, frozen=True):
    """A merge of whole layers: a parent's weight is its share of them, and nothing is left to explain (`residual` is None)."""

    parents: tuple[MergeParent, ...]
    residual: None
    method: str
    layers: tuple[MergedLayer, ...]


class Confirmation(Plain, frozen=True):
    """A registered model whose weights were read again under a fresh key: what its fingerprint told, and what the weights tell.

    `found` is None where they could not be read, with the `reason`.
    """

    model: str
    told: str
    found: str | None
    reason: str | None


class UnderKey(Plain, frozen=True):
    """A model and what is told of it under one of several keys: its relation, "unrelated" where nothing was found."""

    model: str
    key: str
    relation: str


class QueryAnswer(Plain, frozen=True):
    """The answer to "what is this closest to?"."""

    query: Subject
    registry: Searched
    relatives: tuple[Relative, ...]
    merge: Merge | MergeByLayer | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    claims: tuple[WeighedClaim, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    structure: tuple[StructureBeside, ...] = ()
    verdict: str = ""
    examined: Examined | None = None
    confirmed: tuple[Confirmation, ...] | None = None
    under_keys: tuple[UnderKey, ...] | None = None
    contract: int = CONTRACT


class DecomposeAnswer(Plain, frozen=True):
    """The answer to "what is in this merge, and in what proportion?". `merge` is None unless it is one; `fit` is the same object for
    parents that were named, merge or not; `recipe` is mergekit's YAML where one makes such a model again."""

    query: Subject
    registry: Searched | None
    merge: Merge | MergeByLayer | None
    fit: Merge | None
    recipe: str | None
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    contract: int = CONTRACT


class CompareAnswer(Plain, frozen=True):
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
    exact: tuple[ExactRow, ...] | None = None
    exact_summary: ExactSummary | None = None
    aligned: Aligned | None = None
    verdict: str = ""
    examined: Examined | None = None
    compared: float = 0.0
    shared_of_all: float = 0.0
    parts: tuple[Part, ...] = ()
    alternatives: tuple[str, ...] = ()
    counterparts: Counterparts | None = None
    extra: float = 0.0
    rounded: bool = False
    lone: tuple[Lone, ...] = ()
    contract: int = CONTRACT


class Unusual(Plain, frozen=True):
    """One fact about a file that is unusual for a model of its kind, with its numbers. What it was done for, nobody can read from weights.

    `code` is one of AUDITED. `tensors` are the first few of `count`; `bytes` are theirs, and `share` that of the model's bytes: None where
    no bytes are meant, or where nothing tells them.
    """

    code: str
    sentence: str
    tensors: tuple[str, ...]
    count: int
    bytes: int | None
    share: float | None


class Looked(Plain, frozen=True):
    """One thing that an audit looks for: `state` is "found", "nothing found" or "not examined", with the reason."""

    code: str
    words: str
    state: str
    reason: str | None


class AuditAnswer(Plain, frozen=True):
    """The answer to "what in this file is unusual?"; what was not examined is told too."""

    query: Subject
    findings: tuple[Unusual, ...]
    looked: tuple[Looked, ...]
    explanation: tuple[str, ...]
    warnings: tuple[str, ...]
    contract: int = CONTRACT
