"""The decisions, on one readable page: from evidence to a relation, by named thresholds.

Each threshold says what it decides and where its value comes from. "Mechanism" means it follows from how such models come about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer.fingerprint import Fingerprint
from modelkin_registry.evidence import FAMILY_R, INFORMATIVE, NORM_R, SHOWN_AS, ComponentPair, even_deltas, normalised_deltas
from modelkin_registry.nulls import median

Floats = npt.NDArray[np.floating[Any]]
DESCENT_FREE = ("unrelated", "not comparable", "norms only", "shared initialisation")
RELATIONS = (
    "identical", "recast", "quantized", "fine-tuned", "continued", "low-rank delta", "noised", "merged", "layers rearranged", "pruned",
    "upcycled", "vocabulary changed", "component reused", "transplanted", "reparameterised", "shared initialisation", "norms only",
    "unrelated", "not comparable",
)  # fmt: skip

COVERAGE_FLOOR = 0.5  # below this share of placed bytes on either side no relation is claimed: the part not understood could say anything
WHOLE_COVERAGE = 0.95  # below this one no relation of the whole: only that parts are shared, or that it is stored quantised
IDENTICAL_DELTA = 6e-4  # relative L2 difference that float16 storage of the sketches alone produces, with room
RECAST_DELTA = 2.5e-3  # rounding to bfloat16 moves a tensor by at most 2^-9 of each value, 0.0011 rms; with room for a second cast
FINE_TUNED_R = 0.9  # above: the delta is under about 45 % of the weights; below: continued training or a delta as large
DESCENT_SLOPE = 0.75  # one side is the other plus independent changes: slope near 1; two runs from one initialisation: below on both
DESCENT_NORM_R = 0.3  # with that slope, centred norms must be kept at least this well (same initialisation alone: 0.17-0.26 over layers)
KEPT_NORM_R = 0.6  # norms kept this well show descent whatever the slope: learned gains of two runs from one seed stay far below
CERTAIN_R = 0.8  # matrices this close share more than an initialisation: training moves weights further than this
NORMS_ONLY_R = 0.5  # centred norms this close, without any informative family: norms were carried over
MOVED_PROBE, SAME_GRAM = (
    0.3,
    0.8,
)  # a role below the first in probe and above the second in gram or anchored: the same weights in other coordinates
GRID_RATIO = 0.75  # distinct magnitudes fall below this share of the relative's: values lie on a quantiser's grid
QUANTIZED_R = 0.8  # a quantised copy stays at least this close (3 bits: 0.98)
NEW_ZEROS = 0.1  # share of new exact zeros that pruning leaves
STEADY_SLOPE = 0.1  # rounding and added noise leave the slope on the original at 1; training and mixing do not
EVEN_DELTA = 0.12  # spread of log |delta| over tensors: sketch noise alone is 0.06; training leaves 0.3 and more
FEWEST_EVEN_PLACES = 8  # tensors needed to call a delta even
OTHER_PARTS = 0.02  # share of the query's parameters in components without evidence from which a relation is "component reused"
MISSING_SD = 3.0  # standard deviations of chance granted to a family before it is called missing
HALF = 0.5  # share of the layers with a counterpart from which a model is the other with its layers rearranged
WHOLE = 0.97  # share of comparable parameters from which everything comparable is inherited


@dataclass(frozen=True)
class Relation:
    """A relation and further ones that hold as well."""

    name: str
    also: tuple[str, ...] = ()

    @property
    def is_descent(self) -> bool:
        return self.name not in DESCENT_FREE


def component_relation(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> Relation:
    """The relation of one component of the query to one of the relative."""
    informative = [f for f in pair.families if f.informative]
    if not informative or min(query.about.coverage, relative.about.coverage) < COVERAGE_FLOOR:
        return Relation("not comparable")
    if not any(f.inherited for f in informative):
        return Relation("norms only" if _norms_kept(pair, NORMS_ONLY_R) else "unrelated")
    if not shows_descent(pair, query, relative):
        return Relation("shared initialisation")
    names = _descent_names(pair, query, relative)
    if min(query.about.coverage, relative.about.coverage) < WHOLE_COVERAGE:
        names = ["quantized" if _stored_quantized(query, relative) else "transplanted"]
    return Relation(names[0], tuple(names[1:]))


def _stored_quantized(query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether one side says that its weights are stored quantised and the other does not."""
    return (query.about.quantization != "") != (relative.about.quantization != "")


def shows_descent(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether correlated matrices mean inherited training, or only a common starting point.

    If B was trained on from A, B = A + changes independent of A, so the slope of B on A is 1 however far B moved. Two runs from one
    initialisation W are W + a and W + b: both slopes fall below 1. Gains start at one everywhere, so what they share was learned.
    """
    inherited = [f for f in pair.families if f.informative and f.inherited]
    if not any((f.channels.get("probe") or 0.0) >= FAMILY_R for f in inherited):
        return True  # seen in other coordinates or expert by expert only: a common start would show in the same coordinates
    if max(f.r or 0.0 for f in inherited) >= CERTAIN_R or (pair.experts is not None and pair.experts.cosine >= CERTAIN_R):
        return True
    _, slope, reverse = normalised_deltas(pair, query, relative)
    straight = max(median(slope), median(reverse)) >= DESCENT_SLOPE
    norms = [v.cosine for v in pair.vectors if v.family == "norm"]
    if not norms:
        return straight and _untrained(query, relative)
    return _norms_kept(pair, KEPT_NORM_R) or (straight and _norms_kept(pair, DESCENT_NORM_R))


def _untrained(query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether one side still has all its gains at one value: an initialisation, from which the other was trained."""
    return any(found and all(found) for found in (_gain_constants(query), _gain_constants(relative)))


def _norms_kept(pair: ComponentPair, threshold: float) -> bool:
    return any(f.family == "norm" and f.inherited and (f.r or 0.0) >= threshold for f in pair.families)


def _descent_names(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> list[str]:
    """All relations of descent that hold, the most telling first."""
    names = []
    missing = _missing_families(pair)
    if pair.upcycled:
        names.append("upcycled")
    if _rearranged(pair):
        names.append("layers rearranged")
    if (missing - {"embedding"}) or _layers_missing(pair) or _experts_missing(pair) or _norms_replaced(pair):
        names.append("transplanted")
    elif "embedding" in missing or _other_vocabulary(pair, query, relative):
        names.append("vocabulary changed")
    if _reparameterised(pair, query, relative):
        names.append("reparameterised")
    delta = _delta_name(pair, query, relative, partial="transplanted" in names)
    return names + ([] if names and delta in ("identical", "recast") else [delta])


def _missing_families(pair: ComponentPair) -> set[str]:
    """Families that are certainly not inherited as the others are: their r, with room for chance, stays below the others'."""
    kept = max(f.r or 0.0 for f in pair.families if f.informative and f.inherited)
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
    return pair.layer_map.found and len(pair.layer_map.pairs) < min(pair.layers)


def _experts_missing(pair: ComponentPair) -> bool:
    return pair.experts is not None and 0 < pair.experts.share < WHOLE


def _other_vocabulary(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether the token tables have other numbers of rows."""
    sizes = []
    for side, component in ((query, pair.query), (relative, pair.relative)):
        rows = [
            r
            for r, p in zip(side.matrices.rows, side.matrices.places, strict=True)
            if (p.component, p.family, p.role) == (component, "embedding", "token")
        ]
        sizes.append(int(rows[0]) if rows else None)
    return None not in sizes and sizes[0] != sizes[1]


def _reparameterised(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether the weights agree in other coordinates, or after folding gains, better than number by number."""
    if pair.experts is not None and pair.experts.moved > 0.5:
        return True
    if pair.upcycled:
        return False
    inherited = {f.family for f in pair.families if f.informative and f.inherited}
    by_role: dict[tuple[str, str], dict[str, list[float]]] = {}
    for place in pair.places:
        if SHOWN_AS.get(place.family, place.family) in inherited:
            by_role.setdefault((place.family, place.role), {}).setdefault(place.channel, []).append(place.cosine)
    means = [{channel: float(np.mean(found)) for channel, found in channels.items()} for channels in by_role.values()]
    moved = any(m.get("probe", 1.0) < MOVED_PROBE and max(m.get("gram", 0.0), m.get("anchored", 0.0)) >= SAME_GRAM for m in means)
    return moved or _gains_folded(pair, query, relative)


def _gains_folded(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether all gains of one side are one value while the other's are learned and the matrices hardly differ."""
    gains = [_gain_constants(side) for side in (query, relative)]
    closest = max((f.r or 0.0 for f in pair.families if f.informative and f.inherited), default=0.0)
    return closest >= FINE_TUNED_R and all(gains) and all(gains[0]) != all(gains[1])


def _gain_constants(side: Fingerprint) -> list[bool]:
    return [bool(constant) for constant, place in zip(side.vectors.constant, side.vectors.places, strict=True) if place.family == "norm"]


def _delta_name(pair: ComponentPair, query: Fingerprint, relative: Fingerprint, *, partial: bool) -> str:
    """What was done to the values, where coordinates were kept; of a transplant only to those that came over."""
    delta, slope, _ = normalised_deltas(pair, query, relative)
    if not _in_coordinates(pair):
        return "fine-tuned"
    even = even_deltas(pair, query, relative)
    inherited = {f.family for f in pair.families if f.inherited}
    kept = [p for p in pair.places if p.channel == "probe" and SHOWN_AS.get(p.family, p.family) in inherited]
    if (
        kept
        and (partial or _same_vectors(pair, query, relative))
        and all(_same_bytes(p.query_row, p.relative_row, query, relative) for p in kept)
    ):
        return "identical" if _same_precision(pair, query, relative) else "recast"
    if delta.max() <= RECAST_DELTA and query.about.dtypes.keys() != relative.about.dtypes.keys():
        return "recast"
    weights = np.array([query.matrices.parameters[p.query_row] for p in kept], float)
    r = float(np.average([p.cosine for p in kept], weights=weights)) if kept else 0.0
    bodies = [p for p in kept if p.family in ("attention", "mlp", "expert")] or kept
    a, b = [p.query_row for p in bodies], [p.relative_row for p in bodies]
    if bodies and _more(query.matrices.zeros[a], relative.matrices.zeros[b]) >= NEW_ZEROS:
        return "pruned"
    if r >= QUANTIZED_R and _stored_quantized(query, relative):
        return "quantized"
    steady = bool(len(slope)) and abs(median(slope) - 1) <= STEADY_SLOPE
    if steady and r >= QUANTIZED_R and bodies and _grid_ratio(query.matrices.distinct[a], relative.matrices.distinct[b]) < GRID_RATIO:
        return "quantized"
    if steady and _even(even):
        return "noised"
    return "fine-tuned" if r >= FINE_TUNED_R else "continued"


def _same_bytes(a: int, b: int, query: Fingerprint, relative: Fingerprint) -> bool:
    """Equal digests at full level; equal sketches of the sampled rows where a side was only probed."""
    ours, theirs = query.matrices, relative.matrices
    if ours.digest.shape[1] and theirs.digest.shape[1]:
        return bool((ours.digest[a] == theirs.digest[b]).all())
    return bool((ours.probe[a] == theirs.probe[b]).all() and ours.scale[a] == theirs.scale[b])


def _same_vectors(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether all norms compared are equal."""
    rows = [(v.query_row, v.relative_row) for v in pair.vectors if v.family == "norm"]
    return all((query.vectors.digest[a] == relative.vectors.digest[b]).all() for a, b in rows)


def _same_precision(pair: ComponentPair, query: Fingerprint, relative: Fingerprint) -> bool:
    rows = [(p.query_row, p.relative_row) for p in pair.places if p.channel == "probe"]
    return all(query.matrices.bits[a] == relative.matrices.bits[b] for a, b in rows)


def _grid_ratio(ours: Floats, theirs: Floats) -> float:
    return median(ours.astype(float) / theirs.astype(float))


def _more(ours: Floats, theirs: Floats) -> float:
    return median(ours - theirs)


def _even(delta: Floats) -> bool:
    """Whether the change has one relative size in all tensors, as added noise has and training has not."""
    moved = delta[delta > IDENTICAL_DELTA]
    return len(moved) >= FEWEST_EVEN_PLACES and len(moved) == len(delta) and float(np.std(np.log(moved))) <= EVEN_DELTA


def model_relation(relations: Sequence[tuple[ComponentPair, Relation]], query: Fingerprint) -> Relation:
    """The relation of the component with most inherited parameters, unless other components of the query are not the relative's."""
    if not relations:
        return Relation("not comparable")
    ranked = sorted(relations, key=lambda item: (-RANK[item[1].name], -item[0].inherited_parameters, item[0].query))
    relation = ranked[0][1]
    if not relation.is_descent:
        return relation
    reused = {p.query for p, r in relations if r.is_descent}
    sizes: dict[str, int] = {}
    for place, parameters in zip(query.matrices.places, query.matrices.parameters, strict=True):
        if SHOWN_AS.get(place.family, place.family) in INFORMATIVE:
            sizes[place.component] = sizes.get(place.component, 0) + int(parameters)
    foreign = sum(size for component, size in sizes.items() if component not in reused)
    if foreign > OTHER_PARTS * sum(sizes.values()):
        return Relation("component reused", (relation.name, *relation.also))
    return relation


RANK = dict.fromkeys(RELATIONS, 2) | {"shared initialisation": 1.5, "norms only": 1, "unrelated": 0.5, "not comparable": 0}
