"""Each family's evidence from what was measured: its mean against its null, and whether it is inherited. Relations: relations.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from modelkin_indexer.results.channels import CHANNELS
from modelkin_registry.answers.evidence import FamilyEvidence
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.judge import Judge, Strangers
from modelkin_registry.evidence.nulls import reported_p, two_sided_p
from modelkin_registry.evidence.places import (
    FAMILY_P,
    FURTHER_P,
    INFORMATIVE,
    NORM_P,
    NORM_R,
    ROTARY_NORMS,
    SAME_NORM_R,
    SHOWN_AS,
    ComponentPair,
    Measurement,
    PlaceCosine,
    token_tables,
)
from modelkin_registry.evidence.planted import in_few_blocks
from modelkin_registry.evidence.standing import Looked, Standing, channel_result, look, same_numbers, standing

SURELY = 0.999  # of a square that is left for rounding


def judge_components(measured: Measurement, judge: Judge) -> ComponentPair:
    """What a measurement says family by family."""
    families, few = _matrix_families(measured, judge)
    measured = _only_strong(measured, few)
    families += _unseen_tokens(families, measured)
    body_kept = any(f.inherited for f in families)
    families += [_vector_family(family, group, measured, judge, body_kept) for family, group in by_family(measured.vectors).items()]
    inherited, weight = _inherited_parameters(families, measured) if body_kept else (0, 0.0)
    comparable = measured.comparable_parameters
    return ComponentPair(
        measured.query,
        measured.relative,
        measured.layer_map,
        (measured.query.layers, measured.relative.layers),
        tuple(sorted(families, key=lambda f: (not f.informative, f.family))),
        measured.places,
        measured.vectors,
        measured.experts,
        comparable,
        inherited,
        weight / comparable if comparable else 0.0,
        measured.crossed and any(f.family == "expert" and f.inherited for f in families),
    )


def may_widen(measured: Measurement, strangers: Strangers, judge: Judge) -> bool:
    """Whether what strangers show can widen the null of a family's mean, taken of all of its places or of some (`nulls.average_null`)."""
    beyond = {key: spread**2 - judge.between_models(*key) ** 2 for key, spread in strangers.items()}
    wide = {key: square for key, square in beyond.items() if square > 0}
    if not wide:
        return False
    spreads: dict[tuple[str, str], list[float]] = defaultdict(list)
    for place in measured.places:
        spreads[SHOWN_AS.get(place.family, place.family), place.channel].append(place.null.sd)
    for place in measured.vectors:
        spreads[SHOWN_AS.get(place.family, place.family), "probe"].append(place.null.sd)
    # a mean of any of them has a spread within models of the least of theirs / sqrt(all) or more
    return any(key in spreads and square > SURELY * min(spreads[key]) ** 2 / len(spreads[key]) for key, square in wide.items())


def _only_strong(measured: Measurement, few: Mapping[str, Sequence[PlaceCosine]]) -> Measurement:
    """The measurement without those places of a family that show nothing, where others of it do one by one."""
    if not few:
        return measured
    rows = {family: {p.query_row for p in places} for family, places in few.items()}
    kept = [p for p in measured.places if (shown := SHOWN_AS.get(p.family, p.family)) not in rows or p.query_row in rows[shown]]
    return replace(measured, places=tuple(kept))


def by_family(places: Sequence[PlaceCosine]) -> dict[str, list[PlaceCosine]]:
    """Places by the family that they are shown as, in its order."""
    groups: dict[str, list[PlaceCosine]] = defaultdict(list)
    for place in places:
        groups[SHOWN_AS.get(place.family, place.family)].append(place)
    return dict(sorted(groups.items()))


def _matrix_families(measured: Measurement, judge: Judge) -> tuple[list[FamilyEvidence], dict[str, Sequence[PlaceCosine]]]:
    """Each family's evidence: strict until one stands, then further ones by FURTHER_P; token tables follow an anchored body.

    And the places behind those families of which only a few places stand.
    """
    groups = by_family(measured.places)
    looked = [look(family, group, measured, judge) for family, group in groups.items()]
    judged = [_matrix_family(one, measured, judge, FAMILY_P) for one in looked]
    families = [family for family, _ in judged]
    if any(f.inherited for f in families) or _together(families, judge) <= FAMILY_P:
        judged = [  # what rests on a few certain places is not asked again of all of them, nor what stands in every channel already
            first
            if first[1].few or (first[1].stands_throughout(FAMILY_P) and one.family != "expert")
            else _matrix_family(one, measured, judge, FURTHER_P)
            for first, one in zip(judged, looked, strict=True)
        ]
        families = [family for family, _ in judged]
    if any(found.contradicted for _, found in judged):
        families = [replace(f, inherited=f.inherited and _whole(f, groups[f.family], measured)) for f in families]
    families = _without_lone_blocks(families, groups, measured)
    few = {evidence.family: found.places for evidence, found in judged if found.few and evidence.inherited}
    anchored = [f for f in families if f.inherited and f.channel == "anchored"]
    families = [_followed(f, anchored) if anchored and f.family == "embedding" and not f.inherited else f for f in families]
    return families, few


def _without_lone_blocks(
    families: Sequence[FamilyEvidence], groups: Mapping[str, Sequence[PlaceCosine]], measured: Measurement
) -> list[FamilyEvidence]:
    """Token tables alone, of whose sampled blocks some agree and the others do not, tell no kinship: so little can have been put in."""
    lone = [f for f in families if f.inherited]
    is_lone = len(lone) == 1 and (lone[0].family, lone[0].channel) == ("embedding", "probe")
    if not is_lone or not in_few_blocks([p for p in groups["embedding"] if p.channel == "probe"], measured):
        return list(families)
    return [replace(f, inherited=False, contradicted=True) if f is lone[0] else f for f in families]


def _whole(family: FamilyEvidence, group: Sequence[PlaceCosine], measured: Measurement) -> bool:
    """Whether a family rests on more than sampled rows: beside a family whose sample does not stand for the whole, samples say nothing."""
    compared = [p for p in group if p.channel == "probe"]
    return family.channel != "probe" or family.channels.get("gram") is not None or same_numbers(compared, measured)


def _together(families: Sequence[FamilyEvidence], judge: Judge) -> float:
    """p-value of all informative families together in the probe channel: several weak ones may show what no single one does.

    Stouffer's sum of z over families, whose sketches are independent; only where they all point one way and reach the channel's least r.
    """
    judged = [f for f in families if f.informative and f.channel == "probe" and f.z is not None and f.r is not None]
    if len(judged) < 2 or _mean([f.r or 0.0 for f in judged]) < CHANNEL_R["probe"] or any((f.z or 0.0) <= 0 for f in judged):
        return 1.0
    return two_sided_p(sum(f.z or 0.0 for f in judged) / len(judged) ** 0.5, len(CHANNELS) * judge.searched)


def _unseen_tokens(families: Sequence[FamilyEvidence], measured: Measurement) -> list[FamilyEvidence]:
    """Token tables of another width cannot be held against each other, but an anchored body shows that they agree: see `_followed`."""
    anchored = [f for f in families if f.inherited and f.channel == "anchored"]
    if not anchored or any(f.family == "embedding" for f in families):
        return []
    ours, theirs = token_tables(measured.query), token_tables(measured.relative)
    if not (ours and theirs):
        return []
    empty = replace(anchored[0], family="embedding", channels=dict.fromkeys(CHANNELS), roles={}, layers=())
    parameters = int(measured.query.matrices.parameters[ours].sum())
    return [_followed(replace(empty, places=len(ours), parameters=parameters), anchored)]


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


def _matrix_family(looked: Looked, measured: Measurement, judge: Judge, limit: float) -> tuple[FamilyEvidence, Standing]:
    found, family = standing(looked, measured, judge, limit), looked.family
    best, chosen = found.results[found.channel], found.places
    experts = measured.experts
    by_expert = family == "expert" and experts is not None and experts.share > 0 and experts.p_value * judge.searched <= limit
    evidence = FamilyEvidence(
        family=family,
        channel=found.channel,
        r=best.r,
        null_mean=best.null.mean,
        null_sd=best.null.sd,
        z=best.z,
        p_value=reported_p(experts.p_value * judge.searched if by_expert and experts is not None and not found.stands else best.p_value),
        places=len(chosen),
        parameters=int(measured.query.matrices.parameters[[p.query_row for p in chosen]].sum()),
        informative=family in INFORMATIVE,
        inherited=(found.stands or by_expert) and family in INFORMATIVE,
        contradicted=found.contradicted,
        places_compared=len(looked.places[found.channel]) if found.few else 0,
        channels={c: found.results[c].r if c in found.results else None for c in CHANNELS},
        component=measured.query.component,
        roles=_role_means(chosen),
        layers=_layer_means(chosen),
    )
    return evidence, found


def _vector_family(
    family: str,
    group: Sequence[PlaceCosine],
    measured: Measurement,
    judge: Judge,
    body_kept: bool,
) -> FamilyEvidence:
    """Norms, biases and other vectors: centred r, and the raw cosine only beside the floor that means and spreads alone give."""
    counted = [p for p in group if p.role not in ROTARY_NORMS] or list(group)
    result = channel_result(family, "probe", counted, judge)
    raw, floor = _raw_cosines(counted, measured)
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
        parameters=int(measured.query.vectors.length[[p.query_row for p in counted]].sum(dtype=np.int64)),
        informative=False,
        inherited=kept and family == "norm",
        raw_cosine=raw,
        raw_cosine_floor=floor,
        channels={"probe": result.r},
        component=measured.query.component,
        roles=_role_means(group),
        layers=_layer_means(counted),
    )


def _raw_cosines(places: Sequence[PlaceCosine], measured: Measurement) -> tuple[float, float]:
    """Mean raw cosine, and what two unrelated vectors of these means and spreads have: m1 m2 / sqrt((m1^2 + s1^2)(m2^2 + s2^2))."""
    a, b = [p.query_row for p in places], [p.relative_row for p in places]
    query, relative = measured.query, measured.relative
    m1, m2 = query.vectors.mean[a].astype(float), relative.vectors.mean[b].astype(float)
    s1, s2 = query.vectors.sd[a].astype(float), relative.vectors.sd[b].astype(float)
    length = np.sqrt((m1**2 + s1**2) * (m2**2 + s2**2))
    centred = np.array([p.cosine for p in places])
    return float(np.mean((m1 * m2 + centred * s1 * s2) / length)), float(np.mean(m1 * m2 / length))


def _role_means(places: Sequence[PlaceCosine]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for place in places:
        values[place.role].append(place.cosine)
    return {role: sum(found) / len(found) for role, found in sorted(values.items())}


def _layer_means(places: Sequence[PlaceCosine]) -> tuple[tuple[int, int, float], ...]:
    values: dict[tuple[int, int], list[float]] = defaultdict(list)
    for place in places:
        values[place.layers].append(place.cosine)
    return tuple([(a, b, sum(found) / len(found)) for (a, b), found in sorted(values.items()) if a >= 0])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _inherited_parameters(families: Sequence[FamilyEvidence], measured: Measurement) -> tuple[int, float]:
    """Parameters in aligned places of inherited families; and the same weighted by their cosine, to rank relatives by.

    Families seen in gram or anchored only count with the mean cosine of those seen number by number, if there are any: a Gram matrix is
    led by a few strong directions, and does not tell a parent from its other children.
    """
    total, experts, groups = 0.0, measured.experts, by_family(measured.places)
    seen: list[tuple[float, float]] = []
    closest: list[tuple[float, float]] = []
    for family in (f for f in families if f.inherited and f.informative):
        ours = groups.get(family.family, [])
        chosen = [p for p in ours if p.channel == family.channel] or [p._replace(cosine=family.r or 0.0) for p in ours]
        matched = experts if family.family == "expert" and experts is not None and experts.share > 0 else None
        part = matched.share if matched else 1.0
        sizes = [part * float(measured.query.matrices.parameters[p.query_row]) for p in chosen]
        weight = sum(size * (matched.cosine if matched else abs(p.cosine)) for size, p in zip(sizes, chosen, strict=True))
        (closest if matched or family.channel == "probe" else seen).append((sum(sizes), weight))
        total += sum(sizes)
    weight = sum(weight for _, weight in closest)
    size = sum(size for size, _ in closest)
    elsewhere = sum(size for size, _ in seen) * weight / size if size else sum(weight for _, weight in seen)
    return int(total), weight + elsewhere
