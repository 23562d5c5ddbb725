"""What two fingerprints measure of each other, place by place, each number with its null. Families are judged in families.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_registry.answers.evidence import FamilyEvidence
from modelkin_registry.evidence.alignment import LayerMap, align, beside_twins, may_hold_twins, twin_layers
from modelkin_registry.evidence.experts import ExpertMatch, match_experts
from modelkin_registry.evidence.nulls import Null, crossing_nulls, sketch_noises, typical
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import Ints, Similarities, crossed_similarities, matrix_similarities, vector_similarities

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Twins = tuple[frozenset[tuple[int, int]], ...]  # of the query and of the relative, or none
# Families that may support a relation alone. `other` may not: it holds what no rule knows, fixed tables among it.
INFORMATIVE = ("attention", "mlp", "expert", "router", "embedding", "conv", "ssm")
SHOWN_AS = {"head": "embedding"}  # the head is a token table too: both stand under `embedding`, told apart by role
NO_COUNTERPART = -2  # stands for a layer in the place of the missing counterpart of a query layer: no layer has this number
STRUCTURED_ROLES = {("ssm", "A_log"), ("ssm", "D")}  # start from one structured constant in every model (0.999 between strangers)
ROTARY_NORMS = ("q_norm", "k_norm", "cross_q_norm", "cross_k_norm")  # learn the rotary pattern: 0.4-0.85 between strangers
FAMILY_P = 1e-6  # the p-value that the first family of a pair needs, corrected for channels, signs and models searched
FURTHER_P = 1e-4  # and the further families, once one stands
NORM_P = 1e-4  # norms support no relation, so their own significance may be judged less strictly
NORM_R = 0.3  # centred norms count as kept from here, against their mismatched layers
# Beside inherited matrices, centred norms this close are kept whatever their p-value: gains of BERT's layers resemble each other so much
# (0.6) that even a copy's do not stand out from them (all-MiniLM-L6-v2 with itself: r 1.0, p 1.4e-4); strangers stay below 0.3.
SAME_NORM_R = 0.9
UPCYCLED_ROLES = {("expert", "gate"): ("mlp", "gate"), ("expert", "up"): ("mlp", "up"), ("expert", "down"): ("mlp", "down")}


class PlaceCosine(NamedTuple):
    """One aligned place in one channel; rows index the fingerprints' matrix (or vector) tables. A tuple, since a search makes thousands."""

    family: str
    role: str
    channel: str
    layers: tuple[int, int]
    query_row: int
    relative_row: int
    cosine: float
    null: Null


class Measurement(Struct, frozen=True):
    """What a component of the query and one of the relative measure on their layer map, before it is judged.

    `crossed`: whether a mixture's experts were held against dense matrices.
    """

    query: Side
    relative: Side
    layer_map: LayerMap
    places: tuple[PlaceCosine, ...]
    vectors: tuple[PlaceCosine, ...]
    experts: ExpertMatch | None
    comparable_parameters: int
    crossed: bool

    @property
    def changes_only(self) -> bool:
        """Whether both are adapters without their bases: what is compared are the changes that they make."""
        return self.query.is_change and self.relative.is_change


class ComponentPair(Struct, frozen=True, dict=True):
    """Everything found between a component of the query and one of the relative."""

    query: Side
    relative: Side
    layer_map: LayerMap
    layers: tuple[int, int]
    families: tuple[FamilyEvidence, ...]
    places: tuple[PlaceCosine, ...]
    vectors: tuple[PlaceCosine, ...]
    experts: ExpertMatch | None
    comparable_parameters: int
    inherited_parameters: int
    inherited_weight: float
    upcycled: bool

    @cached_property
    def worked_out(self) -> dict[Any, Any]:
        """What was worked out of it and is asked for again (`results/once.py`)."""
        return {}

    @property
    def changes_only(self) -> bool:
        """As of a Measurement."""
        return self.query.is_change and self.relative.is_change


def is_informative(place: Place) -> bool:
    """Whether what stands in this place may support a relation, and is compared for that."""
    return SHOWN_AS.get(place.family, place.family) in INFORMATIVE and (place.family, place.role) not in STRUCTURED_ROLES


def measure_components(query: Side, relative: Side) -> Measurement:
    """Measure one pair of components on the layer map that the pair itself shows."""
    found = matrix_similarities(query, relative)
    trusted = [(s, [at for at, role in enumerate(s.roles) if role not in STRUCTURED_ROLES]) for s in found]
    similarities = [s.of(roles) for s, roles in trusted if roles]
    crossed = crossed_similarities(query, relative, UPCYCLED_ROLES)
    similarities += crossed
    layer_map = align(similarities)
    matched = _matched(similarities, layer_map)
    twins = _twins(query, relative, similarities, matched)
    places = _aligned(similarities, matched, twins)
    others = vector_similarities(query, relative)
    vectors = _aligned(others, _matched(others, layer_map), twins)
    return Measurement(
        query,
        relative,
        layer_map,
        tuple(places),
        tuple(vectors),
        match_experts(query, relative, layer_map.pairs),
        _comparable_parameters(query, similarities),
        any(family == "expert" for s in crossed for family, _ in s.roles),
    )


def _matched(similarities: Sequence[Similarities], layer_map: LayerMap) -> list[Bools]:
    """Of each the cells (n, m) on the map, and those outside any layer."""
    counterpart = {**dict(layer_map.pairs), NO_LAYER: NO_LAYER}
    known: dict[tuple[int, int], Bools] = {}  # by layers, which several channels have in common
    for s in similarities:
        key = id(s.query_layers), id(s.relative_layers)
        if key not in known:
            wanted = np.array([counterpart.get(layer, NO_COUNTERPART) for layer in s.query_layers.tolist()])
            known[key] = wanted[:, None] == s.relative_layers[None, :]
    return [known[id(s.query_layers), id(s.relative_layers)] for s in similarities]


def _twins(query: Side, relative: Side, similarities: Sequence[Similarities], matched: Sequence[Bools]) -> Twins:
    """Layers that a side holds twice, where a cell that is not matched looks like it."""
    found = (may_hold_twins(s.cosines, on_map).any() for s, on_map in zip(similarities, matched, strict=True) if s.channel == "probe")
    return tuple(twin_layers(side.matrices, side.component) for side in (query, relative)) if any(found) else ()


def _aligned(similarities: Sequence[Similarities], matched: Sequence[Bools], twins: Twins) -> list[PlaceCosine]:
    """The matched cells, each with its role's null."""
    found: list[PlaceCosine] = []
    for s, on_map in zip(similarities, matched, strict=True):
        role, a, b = np.nonzero(on_map & np.isfinite(s.cosines))
        if not len(role):
            continue
        rows = s.query_rows[role, a].tolist(), s.relative_rows[role, b].tolist()
        layers = zip(s.query_layers[a].tolist(), s.relative_layers[b].tolist(), strict=True)
        names = zip(*[s.roles[at] for at in role.tolist()], strict=True)
        left_out = beside_twins(on_map, (s.query_layers, s.relative_layers), twins) if any(twins) else on_map
        columns = *names, repeat(s.channel), layers, *rows, s.cosines[role, a, b].tolist(), _nulls(s, left_out, role, a, b)
        found += map(PlaceCosine, *columns)
    return found


def _nulls(s: Similarities, matched: Bools, role: Ints, a: Ints, b: Ints) -> list[Null]:
    """The null of each matched cell (role, a, b) from the cells that are not `matched`: one a role, or in gram and anchored one a cell."""
    noise = sketch_noises(s.channel, s.numbers)
    if s.channel not in ("probe", "vector"):
        means, spread = crossing_nulls(s.cosines, matched, noise)
        return [*map(Null, means[role, a, b].tolist(), spread[role].tolist())]
    middle, spread = typical(s.cosines[:, ~matched], noise, trust_few=True)
    nulls = [*map(Null, middle.tolist(), spread.tolist())]
    return [nulls[at] for at in role.tolist()]


def token_tables(side: Side) -> list[int]:
    """Rows of a component's token tables, the head among them."""
    return [
        row
        for row, p in enumerate(side.matrices.places)
        if p.component == side.component and SHOWN_AS.get(p.family, p.family) == "embedding"
    ]


def _comparable_parameters(query: Side, similarities: Sequence[Similarities]) -> int:
    """Informative parameters of the query that have something of equal shape to be held against, in any layer and channel."""
    held = np.zeros(len(query.matrices), np.bool_)
    for s in similarities:
        informative = [at for at, (family, _) in enumerate(s.roles) if SHOWN_AS.get(family, family) in INFORMATIVE]
        if informative:
            known = s.of(informative)
            held[known.query_rows[np.isfinite(known.cosines).any(axis=2)]] = True
    return int(query.matrices.parameters[held].sum())
