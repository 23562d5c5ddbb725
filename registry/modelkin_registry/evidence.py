"""What two fingerprints show of each other, family by family, each number with its null. No decisions here: see relations.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelkin_indexer.fingerprint import CHANNELS, Fingerprint
from modelkin_indexer.places import NO_LAYER
from modelkin_registry.alignment import CHANNEL_R, LayerMap, align
from modelkin_registry.answers import FamilyEvidence
from modelkin_registry.experts import ExpertMatch, match_experts
from modelkin_registry.nulls import Null, Strangers, average_null, crossing_means, reported_p, sketch_noise, two_sided_p, typical
from modelkin_registry.similarity import Ints, Similarities, cross_role_gram, matrix_similarities, vector_similarities

Floats = npt.NDArray[np.float64]
# Families that may support a relation alone. `other` may not: it holds what no rule knows, fixed tables among it.
INFORMATIVE = ("attention", "mlp", "expert", "router", "embedding", "conv", "ssm")
SHOWN_AS = {"head": "embedding"}  # the head is a token table too: both stand under `embedding`, told apart by role
NO_COUNTERPART = -2  # stands for a layer in the place of the missing counterpart of a query layer: no layer has this number
STRUCTURED_ROLES = {("ssm", "A_log"), ("ssm", "D")}  # start from one structured constant in every model (0.999 between strangers)
ROTARY_NORMS = ("q_norm", "k_norm", "cross_q_norm", "cross_k_norm")  # learn the rotary pattern: 0.4-0.85 between strangers
FAMILY_P = 1e-6  # the p-value that the first family of a pair needs, corrected for channels, signs and models searched
FURTHER_P = 1e-4  # and the further families, once one stands
LONE_R = 0.7  # gram or anchored without other layers to stand out from
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


@dataclass(frozen=True)
class Measurement:
    """What a component of the query and one of the relative measure on their layer map, before it is judged.

    `crossed`: whether a mixture's experts were held against dense matrices.
    """

    query: str
    relative: str
    layer_map: LayerMap
    places: tuple[PlaceCosine, ...]
    vectors: tuple[PlaceCosine, ...]
    experts: ExpertMatch | None
    comparable_parameters: int
    crossed: bool


@dataclass(frozen=True)
class ComponentPair:
    """Everything found between a component of the query and one of the relative."""

    query: str
    relative: str
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


def measure_components(query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str) -> Measurement:
    """Measure one pair of components on the layer map that the pair itself shows."""
    found = matrix_similarities(query, relative, query_component, relative_component)
    trusted = [(s, [at for at, role in enumerate(s.roles) if role not in STRUCTURED_ROLES]) for s in found]
    similarities = [s.of(roles) for s, roles in trusted if roles]
    crossed = cross_role_gram(query, relative, UPCYCLED_ROLES, query_component)
    layer_map = align(similarities + crossed)
    places = _aligned(similarities + crossed, layer_map)
    vectors = _aligned(vector_similarities(query, relative, query_component, relative_component), layer_map)
    return Measurement(
        query_component,
        relative_component,
        layer_map,
        tuple(places),
        tuple(vectors),
        match_experts(query, relative, query_component, relative_component, layer_map.pairs),
        _comparable_parameters(query, similarities + crossed),
        any(family == "expert" for s in crossed for family, _ in s.roles),
    )


def judge_components(
    measured: Measurement, query: Fingerprint, relative: Fingerprint, strangers: Strangers | None, searched: int = 1
) -> ComponentPair:
    """What a measurement says family by family; `strangers` widen the nulls, p-values are corrected for the models `searched`."""
    background = Background(strangers or {}, searched)
    places, vectors, experts = measured.places, measured.vectors, measured.experts
    families = _matrix_families(places, query, experts, background)
    families += _unseen_tokens(families, measured, query, relative)
    body_kept = any(f.inherited for f in families)
    families += [_vector_family(family, group, query, relative, background, body_kept) for family, group in _by_family(vectors).items()]
    inherited, weight = _inherited_parameters(query, families, places, experts)
    comparable = measured.comparable_parameters
    return ComponentPair(
        measured.query,
        measured.relative,
        measured.layer_map,
        (query.about.layers.get(measured.query, 0), relative.about.layers.get(measured.relative, 0)),
        tuple(sorted(families, key=lambda f: (not f.informative, f.family))),
        places,
        vectors,
        experts,
        comparable,
        inherited,
        weight / comparable if comparable else 0.0,
        measured.crossed and any(f.family == "expert" and f.inherited for f in families),
    )


def _aligned(similarities: Sequence[Similarities], layer_map: LayerMap) -> list[PlaceCosine]:
    """The cells on the map, and those outside any layer, each with its role's null."""
    counterpart = {**dict(layer_map.pairs), NO_LAYER: NO_LAYER}
    found = []
    for s in similarities:
        wanted = np.array([counterpart.get(layer, NO_COUNTERPART) for layer in s.query_layers.tolist()])
        matched = wanted[:, None] == s.relative_layers[None, :]
        role, a, b = np.nonzero(matched & np.isfinite(s.cosines))
        rows = s.query_rows[role, a].tolist(), s.relative_rows[role, b].tolist()
        layers = zip(s.query_layers[a].tolist(), s.relative_layers[b].tolist(), strict=True)
        keys = [s.roles[at] for at in role.tolist()]
        columns = zip(keys, layers, *rows, s.cosines[role, a, b].tolist(), _nulls(s, matched, role, a, b), strict=True)
        found += [PlaceCosine(family, role_name, s.channel, *column) for (family, role_name), *column in columns]
    return found


def _nulls(s: Similarities, matched: npt.NDArray[np.bool_], role: Ints, a: Ints, b: Ints) -> list[Null]:
    """The null of each matched cell (role, a, b): one a role, or in gram and anchored one a cell."""
    noise = np.array([sketch_noise(s.channel, numbers) for numbers in s.numbers])
    if s.channel not in ("probe", "vector"):
        means = crossing_means(s.cosines, matched)[role, a, b]
        return [Null(mean, sd) for mean, sd in zip(means.tolist(), noise[role].tolist(), strict=True)]
    middle, spread = typical(s.cosines[:, ~matched], noise, trust_few=True)
    nulls = [Null(mean, sd) for mean, sd in zip(middle.tolist(), spread.tolist(), strict=True)]
    return [nulls[at] for at in role.tolist()]


def _by_family(places: Sequence[PlaceCosine]) -> dict[str, list[PlaceCosine]]:
    groups: dict[str, list[PlaceCosine]] = defaultdict(list)
    for place in places:
        groups[SHOWN_AS.get(place.family, place.family)].append(place)
    return dict(sorted(groups.items()))


@dataclass(frozen=True)
class Background:
    """What evidence is judged against: the registry's own strangers, and how many models were searched."""

    strangers: Strangers
    searched: int


@dataclass(frozen=True)
class _ChannelResult:
    r: float
    null: Null
    z: float
    p_value: float
    strong: bool  # r reaches what its channel needs


def _channel_result(family: str, channel: str, places: Sequence[PlaceCosine], background: Background) -> _ChannelResult:
    r = _mean([place.cosine for place in places])
    null = average_null([place.null for place in places], family, channel, background.strangers)
    z = (r - null.mean) / null.sd
    p_value = two_sided_p(z, len(CHANNELS) * background.searched)
    alone = channel != "probe" and null.mean == 0.0  # no neighbour to stand out from
    signed = abs(r) if channel == "probe" else r  # a negated copy is a copy; a Gram matrix has no sign
    return _ChannelResult(r, null, z, p_value, signed >= max(CHANNEL_R[channel], LONE_R if alone else 0.0))


def _matrix_families(
    places: Sequence[PlaceCosine], query: Fingerprint, experts: ExpertMatch | None, background: Background
) -> list[FamilyEvidence]:
    """Each family's evidence: strict until one stands, then further ones by FURTHER_P; token tables follow an anchored body."""
    groups = _by_family(places)
    families = [_matrix_family(family, group, query, experts, background, FAMILY_P) for family, group in groups.items()]
    if any(f.inherited for f in families) or _together(families, background) <= FAMILY_P:
        families = [_matrix_family(family, group, query, experts, background, FURTHER_P) for family, group in groups.items()]
    anchored = [f for f in families if f.inherited and f.channel == "anchored"]
    return [_followed(f, anchored) if anchored and f.family == "embedding" and not f.inherited else f for f in families]


def _together(families: Sequence[FamilyEvidence], background: Background) -> float:
    """p-value of all informative families together in the probe channel: several weak ones may show what no single one does.

    Stouffer's sum of z over families, whose sketches are independent; only where they all point one way and reach the channel's least r.
    """
    judged = [f for f in families if f.informative and f.channel == "probe" and f.z is not None and f.r is not None]
    if len(judged) < 2 or _mean([f.r or 0.0 for f in judged]) < CHANNEL_R["probe"] or any((f.z or 0.0) <= 0 for f in judged):
        return 1.0
    return two_sided_p(sum(f.z or 0.0 for f in judged) / len(judged) ** 0.5, len(CHANNELS) * background.searched)


def _unseen_tokens(
    families: Sequence[FamilyEvidence], measured: Measurement, query: Fingerprint, relative: Fingerprint
) -> list[FamilyEvidence]:
    """Token tables of another width cannot be held against each other, but an anchored body shows that they agree: see `_followed`."""
    anchored = [f for f in families if f.inherited and f.channel == "anchored"]
    ours, theirs = token_tables(query, measured.query), token_tables(relative, measured.relative)
    if not (anchored and ours and theirs) or any(f.family == "embedding" for f in families):
        return []
    empty = replace(anchored[0], family="embedding", channels=dict.fromkeys(CHANNELS), roles={}, layers=())
    parameters = int(query.matrices.parameters[ours].sum())
    return [_followed(replace(empty, places=len(ours), parameters=parameters), anchored)]


def token_tables(side: Fingerprint, component: str) -> list[int]:
    """Rows of a component's token tables, the head among them."""
    return [
        row for row, p in enumerate(side.matrices.places) if p.component == component and SHOWN_AS.get(p.family, p.family) == "embedding"
    ]


def _followed(embedding: FamilyEvidence, anchored: Sequence[FamilyEvidence]) -> FamilyEvidence:
    """The anchored frame is made of the token rows: a body that agrees in it shows that those rows agree, in other coordinates."""
    body = max(anchored, key=lambda f: (f.r or 0.0, f.family))
    return replace(
        embedding,
        channel="anchored",
        r=body.r,
        null_mean=body.null_mean,
        null_sd=body.null_sd,
        z=body.z,
        p_value=body.p_value,
        inherited=True,
    )


def _matrix_family(
    family: str, group: Sequence[PlaceCosine], query: Fingerprint, experts: ExpertMatch | None, background: Background, limit: float
) -> FamilyEvidence:
    results = {
        c: _channel_result(family, c, [p for p in group if p.channel == c], background)
        for c in CHANNELS
        if any(p.channel == c for p in group)
    }
    evident = [c for c in CHANNELS if c in results and results[c].strong and results[c].p_value <= limit]
    channel = evident[0] if evident else next(iter(results))
    best = results[channel]
    chosen = [p for p in group if p.channel == channel]
    by_expert = family == "expert" and experts is not None and experts.share > 0 and experts.p_value * background.searched <= limit
    return FamilyEvidence(
        family=family,
        channel=channel,
        r=best.r,
        null_mean=best.null.mean,
        null_sd=best.null.sd,
        z=best.z,
        p_value=reported_p(experts.p_value * background.searched if by_expert and experts is not None and not evident else best.p_value),
        places=len(chosen),
        parameters=int(sum(query.matrices.parameters[p.query_row] for p in chosen)),
        informative=family in INFORMATIVE,
        inherited=(bool(evident) or by_expert) and family in INFORMATIVE,
        channels={c: results[c].r if c in results else None for c in CHANNELS},
        roles=_role_means(chosen),
        layers=_layer_means(chosen),
    )


def _vector_family(
    family: str,
    group: Sequence[PlaceCosine],
    query: Fingerprint,
    relative: Fingerprint,
    background: Background,
    body_kept: bool,
) -> FamilyEvidence:
    """Norms, biases and other vectors: centred r, and the raw cosine only beside the floor that means and spreads alone give."""
    counted = [p for p in group if p.role not in ROTARY_NORMS] or list(group)
    result = _channel_result(family, "probe", counted, background)
    raw, floor = _raw_cosines(counted, query, relative)
    kept = (result.r >= NORM_R and result.p_value <= NORM_P) or (body_kept and result.r >= SAME_NORM_R)
    return FamilyEvidence(
        family=family,
        channel="probe",
        r=result.r,
        null_mean=result.null.mean,
        null_sd=result.null.sd,
        z=result.z,
        p_value=reported_p(result.p_value),
        places=len(counted),
        parameters=int(sum(query.vectors.length[p.query_row] for p in counted)),
        informative=False,
        inherited=kept and family == "norm",
        raw_cosine=raw,
        raw_cosine_floor=floor,
        channels={"probe": result.r},
        roles=_role_means(group),
        layers=_layer_means(counted),
    )


def _raw_cosines(places: Sequence[PlaceCosine], query: Fingerprint, relative: Fingerprint) -> tuple[float, float]:
    """Mean raw cosine, and what two unrelated vectors of these means and spreads have: m1 m2 / sqrt((m1^2 + s1^2)(m2^2 + s2^2))."""
    a, b = [p.query_row for p in places], [p.relative_row for p in places]
    m1, m2 = query.vectors.mean[a].astype(float), relative.vectors.mean[b].astype(float)
    s1, s2 = query.vectors.sd[a].astype(float), relative.vectors.sd[b].astype(float)
    length = np.sqrt((m1**2 + s1**2) * (m2**2 + s2**2))
    centred = np.array([p.cosine for p in places])
    return float(np.mean((m1 * m2 + centred * s1 * s2) / length)), float(np.mean(m1 * m2 / length))


def _role_means(places: Sequence[PlaceCosine]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for place in places:
        values[place.role].append(place.cosine)
    return {role: _mean(found) for role, found in sorted(values.items())}


def _layer_means(places: Sequence[PlaceCosine]) -> tuple[tuple[int, int, float], ...]:
    values: dict[tuple[int, int], list[float]] = defaultdict(list)
    for place in places:
        values[place.layers].append(place.cosine)
    return tuple((a, b, _mean(found)) for (a, b), found in sorted(values.items()) if a >= 0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _comparable_parameters(query: Fingerprint, similarities: Sequence[Similarities]) -> int:
    """Informative parameters of the query that have something of equal shape to be held against, in any layer and channel."""
    rows: set[int] = set()
    for s in similarities:
        informative = np.array([SHOWN_AS.get(family, family) in INFORMATIVE for family, _ in s.roles])
        rows.update(s.query_rows[informative[:, None] & np.isfinite(s.cosines).any(axis=2)].tolist())
    return int(query.matrices.parameters[list(rows)].sum())


def _inherited_parameters(
    query: Fingerprint, families: Sequence[FamilyEvidence], places: Sequence[PlaceCosine], experts: ExpertMatch | None
) -> tuple[int, float]:
    """Parameters in aligned places of inherited families; and the same weighted by their cosine, to rank relatives by.

    Families seen in gram or anchored only count with the mean cosine of those seen number by number, if there are any: a Gram matrix is
    led by a few strong directions, and does not tell a parent from its other children.
    """
    total = 0.0
    seen: list[tuple[float, float]] = []
    closest: list[tuple[float, float]] = []
    for family in (f for f in families if f.inherited and f.informative):
        ours = [p for p in places if SHOWN_AS.get(p.family, p.family) == family.family]
        chosen = [p for p in ours if p.channel == family.channel] or [p._replace(cosine=family.r or 0.0) for p in ours]
        matched = experts if family.family == "expert" and experts is not None and experts.share > 0 else None
        part = matched.share if matched else 1.0
        sizes = [part * float(query.matrices.parameters[p.query_row]) for p in chosen]
        weight = sum(size * (matched.cosine if matched else abs(p.cosine)) for size, p in zip(sizes, chosen, strict=True))
        (closest if matched or family.channel == "probe" else seen).append((sum(sizes), weight))
        total += sum(sizes)
    weight = sum(weight for _, weight in closest)
    size = sum(size for size, _ in closest)
    elsewhere = sum(size for size, _ in seen) * weight / size if size else sum(weight for _, weight in seen)
    return int(total), weight + elsewhere
