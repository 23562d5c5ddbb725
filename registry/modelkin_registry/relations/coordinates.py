"""The same weights in other coordinates: whether, and by which symmetry of the architecture.

The three channels are blind to different symmetries, so what a role shows in each of them tells which one was used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.evidence.nulls import median
from modelkin_registry.evidence.places import SHOWN_AS, ComponentPair, PlaceCosine
from modelkin_registry.evidence.side import Side
from modelkin_registry.relations.deltas import same_bytes

Floats = npt.NDArray[np.floating[Any]]
RoleMeans = Mapping[tuple[str, str], Mapping[str, float]]  # (family as shown, role) -> channel -> mean cosine
# A role below the first in probe and from the second on in gram or anchored is the same weights in other coordinates: strangers reach 0.12
# and 0.4, permuted copies show under 0.15 and over 0.95.
UNKNOWN_SYMMETRY = "other coordinates"  # what was moved, but not how
MOVED_PROBE, SAME_GRAM = 0.3, 0.8  # a role of which probe sees less than the first and gram the second or more was moved, not replaced
FOLDED_R = 0.9  # folding gains leaves matrices at least this close number by number
MOST_MOVED = 0.5  # share of the matched experts that sit at another number
# Rows scaled one by one keep their directions: a slope a row then leaves little of what one slope leaves. Measured on lineagebench:
# rescaled rows 0.26-0.28 (theory 0.25, from the centring of rows), training, noise, rounding and pruning 0.84-0.97 (theory 0.94).
ROWS_RESCALED = 0.55
CHANGED_R = 0.999  # a partner of rescaled rows is itself changed: its r stays below this
SCALED_LOG = 0.02  # |log| of a whole matrix's ratio of lengths from which it was multiplied by a number
EXACT_R = 0.9999  # of a matrix that was only multiplied by a number
SAME_QUANTILES = 0.1  # quantiles of gains this near, in their own spread, are those of the same numbers (further training: 0.02)
# Roles between which a scale can be moved: rows of the first against rows (q, k) or columns (o, down) of the second.
PARTNERS = ((("attention", "q"), ("attention", "k")), (("attention", "v"), ("attention", "o")), (("mlp", "up"), ("mlp", "down")))

WITH_ROWS = {("attention", "q"), ("attention", "k"), ("attention", "v"), ("mlp", "up")}  # those of them whose rows are scaled


def reparameterised(pair: ComponentPair, means: RoleMeans) -> tuple[str, ...]:
    """The symmetries by which the query's weights are the relative's in other coordinates; empty where coordinates were kept."""
    inherited = _inherited(pair, means)
    found = [name for name, holds in SYMMETRIES.items() if holds(pair, inherited)]
    if not found and _moved_roles(inherited):
        found = [UNKNOWN_SYMMETRY]
    return tuple(found)


def _inherited(pair: ComponentPair, means: RoleMeans) -> RoleMeans:
    families = {f.family for f in pair.families if f.informative and f.inherited}
    return {key: channels for key, channels in means.items() if key[0] in families}


def _experts_reordered(pair: ComponentPair, _: RoleMeans) -> bool:
    return pair.experts is not None and pair.experts.moved > MOST_MOVED


def _signs_turned(pair: ComponentPair, _: RoleMeans) -> bool:
    return any(f.inherited and f.informative and f.channel == "probe" and (f.r or 0.0) < 0 for f in pair.families)


def _moved_roles(means: RoleMeans, channel: str = "") -> set[tuple[str, str]]:
    """Roles that probe does not see while gram (or anchored alone) does."""
    moved = {
        key: "gram" if m.get("gram", 0.0) >= SAME_GRAM else "anchored"
        for key, m in means.items()
        if m.get("probe", 1.0) < MOVED_PROBE and max(m.get("gram", 0.0), m.get("anchored", 0.0)) >= SAME_GRAM
    }
    return {key for key, seen in moved.items() if channel in ("", seen)}


def _neurons_reordered(pair: ComponentPair, means: RoleMeans) -> bool:
    return not pair.upcycled and any(family == "mlp" for family, _ in _moved_roles(means, "gram"))


def _heads_reordered(pair: ComponentPair, means: RoleMeans) -> bool:
    return any(role in ("q", "k") for family, role in _moved_roles(means, "gram") if family == "attention")


def _values_turned(pair: ComponentPair, means: RoleMeans) -> bool:
    moved = {role for family, role in _moved_roles(means, "gram") if family == "attention"}
    return "v" in moved and not _heads_reordered(pair, means)


def _residual_moved(means: RoleMeans) -> bool:
    return bool(_moved_roles(means, "anchored"))


def _residual_reordered(pair: ComponentPair, means: RoleMeans) -> bool:
    return _residual_moved(means) and _gains(pair) == "reordered"


def _residual_signs(pair: ComponentPair, means: RoleMeans) -> bool:
    return _residual_moved(means) and _gains(pair) == "same"


def _residual_rotated(pair: ComponentPair, means: RoleMeans) -> bool:
    return _residual_moved(means) and _gains(pair) == "other"


def _gains(pair: ComponentPair) -> str:
    """Whether the gains are the `same`, the same numbers `reordered`, or `other` (a rotation has to fold them away first)."""
    norms = [v for v in pair.vectors if v.family == "norm"]
    if not norms:
        return "other"
    if median([v.cosine for v in norms]) >= FOLDED_R:
        return "same"
    a, b = [v.query_row for v in norms], [v.relative_row for v in norms]
    ours, theirs = pair.query.vectors.quantiles[a].astype(float), pair.relative.vectors.quantiles[b].astype(float)
    apart = np.abs(ours - theirs).mean(axis=1) / np.maximum(pair.relative.vectors.sd[b], np.finfo(np.float32).tiny)
    return "reordered" if median(apart) <= SAME_QUANTILES else "other"


def _gains_folded(pair: ComponentPair, means: RoleMeans) -> bool:
    """Whether one side has all gains at one value, and with gains folded in its matrices are nearer to the other's than without.

    Matrices that are the other's to the last bit have taken nothing in: then the gains were set to one value and are lost.
    """
    gains = [gain_constants(side) for side in (pair.query, pair.relative)]
    if all(gains[0]) == all(gains[1]) or not all(gains):
        return False
    near = [key for key, m in means.items() if m.get("probe", 0.0) >= FOLDED_R and not _equal_matrices(pair, key)]
    return any(_whole_gram(pair, key) > means[key]["probe"] for key in near)


def _equal_matrices(pair: ComponentPair, key: tuple[str, str]) -> bool:
    rows = [(p.query_row, p.relative_row) for p in pair.places if (p.family, p.role, p.channel) == (*key, "probe")]
    return bool(same_bytes([a for a, _ in rows], [b for _, b in rows], pair).all())


def _whole_gram(pair: ComponentPair, key: tuple[str, str]) -> float:
    """Mean cosine of a role's Gram matrices with their strongest direction, which says most of what was folded in; 0 without any."""
    rows = [(p.query_row, p.relative_row) for p in pair.places if (p.family, p.role, p.channel) == (*key, "gram")]
    if not rows:
        return 0.0
    a, b = (list(chosen) for chosen in zip(*rows, strict=True))
    ours, theirs = pair.query.matrices.gram[a].astype(float), pair.relative.matrices.gram[b].astype(float)
    return float(np.mean(np.sum(ours * theirs, axis=1) / (np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1))))


def gain_constants(side: Side) -> list[bool]:
    """Of each norm gain vector of the whole model, whether all its values are one."""
    return [bool(constant) for constant, place in zip(side.vectors.constant, side.vectors.places, strict=True) if place.family == "norm"]


def _scales_moved(pair: ComponentPair, _: RoleMeans) -> bool:
    """Whether a scale was moved between two matrices: row by row, or as one number that the other takes back."""
    places: dict[tuple[str, str], list[PlaceCosine]] = {}
    for place in pair.places:
        if place.channel == "probe" and place.layers[0] >= 0:
            places.setdefault((SHOWN_AS.get(place.family, place.family), place.role), []).append(place)
    both = [(places[a], places[b]) for a, b in PARTNERS if a in places and b in places]
    return any(_rows_traded(a, b, pair) or _number_traded(a, b, pair) for a, b in both)


def _rows_traded(first: Sequence[PlaceCosine], second: Sequence[PlaceCosine], pair: ComponentPair) -> bool:
    if first[0].family == "attention" and first[0].role == "q":
        return all(row_rescaling(side, pair) <= ROWS_RESCALED for side in (first, second))
    return median([p.cosine for p in second]) < CHANGED_R and row_rescaling(first, pair) <= ROWS_RESCALED


def row_rescaling(places: Sequence[PlaceCosine], pair: ComponentPair) -> float:
    """What a slope for each sampled row leaves of the query / what one slope leaves; median over places, 1 where nothing changed."""
    left = _all_left(pair)
    changed = [left[p.query_row, p.relative_row] for p in places if p.cosine < CHANGED_R]
    return median(changed) if changed else 1.0


@once
def _all_left(pair: ComponentPair) -> Mapping[tuple[int, int], float]:
    """By its rows of both tables what is left of each place of the probe channel that a scale may have been moved out of or into."""
    slots = _slots(pair.relative.matrices)
    groups: dict[int, list[PlaceCosine]] = {}
    for place in pair.places:
        if place.channel == "probe" and place.cosine < CHANGED_R and (SHOWN_AS.get(place.family, place.family), place.role) in WITH_ROWS:
            groups.setdefault(slots[place.relative_row], []).append(place)
    found: dict[tuple[int, int], float] = {}
    for count, some in groups.items():
        rows = [(p.query_row, p.relative_row) for p in some]
        found |= zip(rows, _left_by_rows(some, count, pair).tolist(), strict=True)
    return found


@once
def _slots(table: Matrices) -> Sequence[int]:
    """How many rows apart each sketch keeps."""
    return [*map(sketch.slots, table.rows.tolist(), table.columns.tolist())]


def _left_by_rows(places: Sequence[PlaceCosine], slots: int, pair: ComponentPair) -> Floats:
    """Of each of these places, whose sketches keep so many rows apart."""
    mine, other = pair.query.matrices.sketches["probe"][0], pair.relative.matrices.sketches["probe"][0]
    ours = mine[[p.query_row for p in places]].astype(float).reshape(len(places), slots, -1)
    theirs = other[[p.relative_row for p in places]].astype(float).reshape(len(places), slots, -1)
    each, own = np.sum(ours * theirs, axis=2), np.sum(theirs**2, axis=2)
    size = np.sum(ours**2, axis=(1, 2))
    by_rows = size - np.sum(np.divide(each**2, own, out=np.zeros_like(own), where=own > 0), axis=1)
    whole = np.sum(own, axis=1)
    by_one = size - np.divide(np.sum(each, axis=1) ** 2, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(np.divide(by_rows, by_one, out=np.ones_like(by_one), where=by_one > 0))


def _number_traded(first: Sequence[PlaceCosine], second: Sequence[PlaceCosine], pair: ComponentPair) -> bool:
    """Whether both matrices are exact multiples, and the factors cancel."""
    if median([p.cosine for p in (*first, *second)]) < EXACT_R:
        return False
    logs = [_log_ratio(side, pair) for side in (first, second)]
    return bool(min(map(abs, logs)) >= SCALED_LOG and abs(sum(logs)) <= SCALED_LOG / 2)


def _log_ratio(places: Sequence[PlaceCosine], pair: ComponentPair) -> float:
    ours = pair.query.matrices.scale[[p.query_row for p in places]].astype(float)
    return median(np.log(ours / pair.relative.matrices.scale[[p.relative_row for p in places]].astype(float)))


Holds = Callable[[ComponentPair, RoleMeans], bool]
SYMMETRIES: Mapping[str, Holds] = {
    "experts in another order": _experts_reordered,
    "neurons in another order": _neurons_reordered,
    "attention heads in another order": _heads_reordered,
    "the value space of heads turned": _values_turned,
    "channels of the residual stream in another order": _residual_reordered,
    "signs of channels turned": _residual_signs,
    "the residual stream rotated": _residual_rotated,
    "every sign turned": _signs_turned,
    "norm gains folded into the matrices that read them": _gains_folded,
    "scales moved between paired matrices": _scales_moved,
}
