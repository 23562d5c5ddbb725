"""Evidence of one model against another, as answers tell it."""

from __future__ import annotations

from msgspec import field

from modelkin_registry.answers.parts import Counterparts, Lone, Part
from modelkin_registry.answers.plain import Plain

SAME_R = 0.99995  # correlations from here are those of equal weights, but for the rounding of sketches


class FamilyEvidence(Plain, frozen=True):
    """One family of one component against its counterpart. `r` is in [-1, 1]; None where it could not be computed.

    `roles` maps each role to its mean r; `layers` lists [query layer, relative layer, r] for the heat strip. `contradicted`: the rows that
    are sampled agree, but the whole matrices do not, as where rows of one model were put into another: it supports no relation.
    `places_compared`: how many were compared, where `places` are only those that carry the evidence and the others show none; else 0.
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
    contradicted: bool = False
    raw_cosine: float | None = None
    raw_cosine_floor: float | None = None
    channels: dict[str, float | None] = field(default_factory=dict)
    places_compared: int = 0
    component: str = ""
    roles: dict[str, float] = field(default_factory=dict)
    layers: tuple[tuple[int, int, float], ...] = ()


class ComponentEvidence(Plain, frozen=True):
    """One component of the query against one component of the relative. `changes`: what was done to it, in sentences."""

    query: str
    relative: str
    relation: str
    shared: float
    layer_map: tuple[tuple[int, int], ...]
    families: tuple[FamilyEvidence, ...]
    changes: tuple[str, ...] = ()


class HeldBy(Plain, frozen=True):
    """A registry that has a model, by its file or address, and what the model is called there."""

    registry: str
    model: str


class Relative(Plain, frozen=True):
    """One registered model as an answer to a query.

    `sampled`: one side was read at level probe only. `quantization`: where the relation is `quantized`, side ("query" or "relative") -> how
    it stores its weights. `declared`: the relation is what an adapter's file says, which its weights cannot show. `compared` is the share
    of all informative parameters of the query that was held against this model, `shared_of_all` the share of them that carries evidence.
    `alternatives` are the explanations that no fact excludes, of ALTERNATIVES. `extra` is the share of this model's numbers that a copy
    does not hold: all of the copy is in this model, which holds more. `rounded`: a `recast` copy in the same number formats, whose last
    digits another converter rounded. `counterparts` is None of a relative without evidence. `lone`: of a common start the few matrices that
    it rests on, where all else that was compared shows nothing. `held_by`: where several registries were asked as one, those that have
    this model (the same weights, whatever they are called there).
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
    compared: float = 0.0
    shared_of_all: float = 0.0
    parts: tuple[Part, ...] = ()
    alternatives: tuple[str, ...] = ()
    counterparts: Counterparts | None = None
    extra: float = 0.0
    rounded: bool = False
    lone: tuple[Lone, ...] = ()
    held_by: tuple[HeldBy, ...] = ()


class Control(Plain, frozen=True):
    """How far a third model is from both sides of a comparison."""

    model: str
    a_c: tuple[FamilyEvidence, ...]
    b_c: tuple[FamilyEvidence, ...]
