"""The decisions, on one readable page: from evidence to a relation, by named thresholds.

Each threshold says what it decides and where its value comes from. "Mechanism" means it follows from how such models come about.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import NO_LAYER
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.alignment import ALIGNING_FAMILIES
from modelkin_registry.evidence.places import NORM_R, SHOWN_AS, ComponentPair, is_informative
from modelkin_registry.evidence.side import Side
from modelkin_registry.relations.coordinates import RoleMeans, reparameterised
from modelkin_registry.relations.deltas import FINE_TUNED_R, contained, delta_name, drawn, stored_quantized, whole_copy
from modelkin_registry.relations.descent import shows_descent

Floats = npt.NDArray[np.floating[Any]]

COVERAGE_FLOOR = 0.5  # below this share of placed bytes on either side only parts in common are told: the rest could say anything
WHOLE_COVERAGE = 0.95  # below this one no relation of the whole: only that parts are shared, or that it is stored quantised
ABSENT_ROLE_R = 0.3  # beside a role kept at CERTAIN_R, a role below this in every channel was not taken over (one tensor's noise: 0.09)
CERTAIN_R = 0.8  # roles this close were certainly taken over, so that others beside them can be missing
NORMS_ONLY_R = 0.5  # centred norms this close, without any informative family: norms were carried over
OTHER_PARTS = 0.02  # share of the query's parameters without evidence, or without a counterpart, from which it is not a copy of the whole
MISSING_SD = 3.0  # standard deviations of chance granted to a family before it is called missing
CLEARED = "all values are equal"  # how a fingerprint tells matrices that were left out for that
HALF = 0.5  # share of the layers with a counterpart from which a model is the other with its layers rearranged
UNCHANGED_R = 0.995  # roles this close in some channel were moved, not changed: exact moves give 0.999, light training 0.99
WHOLE = 0.97  # share of comparable parameters from which everything comparable is inherited


class Relation(Struct, frozen=True):
    """A relation and further ones that hold as well."""

    name: str
    also: tuple[str, ...] = ()

    @property
    def is_descent(self) -> bool:
        return self.name not in DESCENT_FREE


def component_relation(pair: ComponentPair) -> Relation:
    """The relation of one component of the query to one of the relative."""
    informative = [f for f in pair.families if f.informative]
    understood = min(pair.query.about.coverage, pair.relative.about.coverage)
    shown = any(f.inherited for f in informative)
    if not informative or (understood < COVERAGE_FLOOR and not (shown and shows_descent(pair))):
        return Relation("not comparable")
    if not shown:
        alike = pair.changes_only and any(f.channel == "gram" for f in informative)
        return Relation("shared initialisation" if alike else "norms only" if _norms_kept(pair, NORMS_ONLY_R) else "unrelated")
    if not ((not drawn(pair) and (whole_copy(pair) or contained(pair))) or shows_descent(pair)):
        return Relation("shared initialisation")
    copied = "" if tokens_cleared(pair) else whole_copy(pair)
    names = [copied] if copied else _descent_names(pair)
    if understood < WHOLE_COVERAGE:
        names = ["quantized" if stored_quantized(pair) else "transplanted"]
    if pair.query.about.shards or pair.relative.about.shards:  # some files of a model: what is not there was not left out by anybody
        names = ["transplanted"]
    return Relation(names[0], tuple(names[1:]))


def _norms_kept(pair: ComponentPair, threshold: float) -> bool:
    return any(f.family == "norm" and f.inherited and (f.r or 0.0) >= threshold for f in pair.families)


def _descent_names(pair: ComponentPair) -> list[str]:
    """All relations of descent that hold, the most telling first."""
    names = []
    missing, means = _missing_families(pair), role_means(pair)
    if pair.upcycled:
        names.append("upcycled")
    if _rearranged(pair):
        names.append("layers rearranged")
    if (
        (missing - {"embedding"})
        or _roles_missing(pair, means)
        or _parts_unmatched(pair)
        or _layers_missing(pair)
        or _experts_missing(pair)
        or _norms_replaced(pair)
        or tokens_cleared(pair)
    ):
        names.append("transplanted")
    elif "embedding" in missing or _other_vocabulary(pair):
        names.append("vocabulary changed")
    moved = bool(reparameterised(pair, means))
    if moved:
        names.append("reparameterised")
    if _narrowed(pair):
        names.append("pruned")
    delta = delta_name(pair, partial="transplanted" in names)
    if delta == "copied in part" and not names:
        names.append("transplanted")
    told = delta in ("identical", "recast", "copied in part") or (
        moved and (delta == "low-rank delta" or _unchanged_elsewhere(pair, means))
    )
    return names + ([] if names and told else [delta])


def _unchanged_elsewhere(pair: ComponentPair, means: RoleMeans) -> bool:
    """Whether every inherited role agrees to the rounding of sketches in some channel: moved, but not changed."""
    inherited = {f.family for f in pair.families if f.informative and f.inherited and f.family != "embedding"}  # tables have one channel
    return all(max(map(abs, m.values())) >= UNCHANGED_R for (family, _), m in means.items() if family in inherited)


def _narrowed(pair: ComponentPair) -> bool:
    """Whether matrices of inherited families have fewer rows or columns than their counterparts, and none has more."""
    inherited = {f.family for f in pair.families if f.informative and f.inherited}
    places = [p for p in pair.places if p.family in inherited and p.family != "embedding" and not pair.upcycled]
    a, b = [p.query_row for p in places], [p.relative_row for p in places]
    ours, theirs = pair.query.matrices, pair.relative.matrices
    wider = np.concatenate([theirs.rows[b] - ours.rows[a], theirs.columns[b] - ours.columns[a]])
    return bool((wider > 0).any() and (wider >= 0).all())


@once
def role_means(pair: ComponentPair) -> RoleMeans:
    """(family as shown, role) -> channel -> mean cosine over the aligned places."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for place in pair.places:
        key = SHOWN_AS.get(place.family, place.family), place.role
        found.setdefault(key, {}).setdefault(place.channel, []).append(place.cosine)
    return {key: {channel: float(np.mean(values)) for channel, values in channels.items()} for key, channels in found.items()}


def _roles_missing(pair: ComponentPair, role_means: RoleMeans) -> bool:
    """Whether within an inherited family some roles were certainly not taken over, in any channel, while another was."""
    inherited = {f.family: f for f in pair.families if f.informative and f.inherited}
    best: dict[str, list[float]] = {}
    for (family, _), means in role_means.items():
        if family in inherited and "probe" in means:
            best.setdefault(family, []).append(max(map(abs, means.values())))
    return any(max(found) >= CERTAIN_R and min(found) < ABSENT_ROLE_R for found in best.values())


def _parts_unmatched(pair: ComponentPair) -> bool:
    """Whether a part of the query's component has no counterpart of its shape in any channel; cleared tensors are among it."""
    matched = {place.query_row for place in pair.places}
    own = _informative_rows(pair.query)
    followed = {f.family for f in pair.families if f.inherited and f.family == "embedding" and f.channel == "anchored"}
    lacking = sum(size for row, family, size in own if row not in matched and family not in followed)
    return lacking > OTHER_PARTS * sum(size for _, _, size in own)


def _informative_rows(side: Side) -> list[tuple[int, str, int]]:
    """Rows of a component's informative matrices, their families as shown, and their sizes; worked out once for every model held to it."""
    table, known = side.matrices, side.matrices.worked_out
    if (_informative_rows, side.component) not in known:
        own = [(row, p.family) for row, p in enumerate(table.places) if p.component == side.component and is_informative(p)]
        known[_informative_rows, side.component] = [(row, shown(family), int(table.parameters[row])) for row, family in own]
    return known[_informative_rows, side.component]  # type: ignore[no-any-return]


def tokens_cleared(pair: ComponentPair) -> bool:
    """Whether the query's token table is one number throughout, where the relative has a learned one: it is not among what is compared."""
    if CLEARED not in (pair.query.about.constants or {}).values():
        return False
    tables = [
        any(p.component == side.component and (p.family, p.role) == ("embedding", "token") for p in side.matrices.places)
        for side in (pair.query, pair.relative)
    ]
    return tables == [False, True]


def _missing_families(pair: ComponentPair) -> set[str]:
    """Families that are certainly not inherited as the others are: their r, with room for chance, stays below the others'."""
    kept = max(abs(f.r or 0.0) for f in pair.families if f.informative and f.inherited)
    lacking = [f for f in pair.families if f.informative and not f.inherited and f.family != "router"]
    return {f.family for f in lacking if (f.r or 0.0) + MISSING_SD * (f.null_sd or 0.0) < kept}


def _norms_replaced(pair: ComponentPair) -> bool:
    """Whether the matrices were kept closely while learned gains are another model's."""
    closest = (
        max(f.r or 0.0 for f in pair.families if f.informative and f.inherited and f.channel == "probe") if _in_coordinates(pair) else 0.0
    )
    return closest >= FINE_TUNED_R and any(f.family == "norm" and not f.inherited and (f.r or 0.0) < NORM_R for f in pair.families)


def _in_coordinates(pair: ComponentPair) -> bool:
    return any(f.informative and f.inherited and f.channel == "probe" for f in pair.families)


def _rearranged(pair: ComponentPair) -> bool:
    """Whether layers were added, dropped, repeated or re-ordered (a missing counterpart alone is not a rearrangement)."""
    if not pair.layer_map.found or len(pair.layer_map.pairs) < HALF * pair.layers[0]:
        return False
    depth_changed = pair.layers[0] != pair.layers[1]
    return depth_changed or any(a != b for a, b in pair.layer_map.pairs)


def _layers_missing(pair: ComponentPair) -> bool:
    """Whether a layer of the shorter side has no counterpart. Layers of vectors alone have nothing that they could be found by."""
    sides = (pair.query, pair.relative)
    return pair.layer_map.found and len(pair.layer_map.pairs) < min(_layers_to_map(side.matrices, side.component) for side in sides)


@once
def _layers_to_map(table: Matrices, component: str) -> int:
    own = (place for place in table.places if place.component == component and place.family in ALIGNING_FAMILIES)
    return len({place.layer for place in own} - {NO_LAYER})


def _experts_missing(pair: ComponentPair) -> bool:
    return pair.experts is not None and 0 < pair.experts.share < WHOLE


def _other_vocabulary(pair: ComponentPair) -> bool:
    """Whether the token tables have other numbers of rows, or other tables that were held against each other have."""
    ours, theirs = pair.query.matrices, pair.relative.matrices
    tables = [p for p in pair.places if p.family == "embedding" and p.channel == "probe"]
    if any(ours.rows[p.query_row] != theirs.rows[p.relative_row] for p in tables):
        return True
    sizes = [_tokens(side.matrices, side.component) for side in (pair.query, pair.relative)]
    return None not in sizes and sizes[0] != sizes[1]


@once
def _tokens(table: Matrices, component: str) -> int | None:
    """Rows of a component's first token table, None without one."""
    wanted = component, "embedding", "token"
    return next((int(r) for r, p in zip(table.rows, table.places, strict=True) if (p.component, p.family, p.role) == wanted), None)


def shown(family: str) -> str:
    """The family under which a tensor's family is told."""
    return SHOWN_AS.get(family, family)
