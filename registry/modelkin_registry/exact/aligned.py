"""What undoing a change of coordinates amounts to: families before and after, beside layers that are no counterparts, and sentences.

Strangers that share a tokenizer align too: their token tables (held out rows) at 0.4 to 0.7, their layers at 0.1 to 0.35, whichever
layer is held against whichever. The token table is therefore never evidence, and a layer has to agree with its counterpart more than
with others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from scipy.special import stdtr

from modelkin_indexer.results.aligned import AlignedReading, AlignedRole, ChannelMap
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.exact import Aligned, RecoveredFamily
from modelkin_registry.evidence.nulls import reported_p
from modelkin_registry.evidence.places import SHOWN_AS

RECOVERED_P = 1e-4  # corrected for the families of the pair
RECOVERED_R = 0.4  # as CHANNEL_R of gram: strangers' layers reach 0.38 once their channels and units are aligned
MOVED_R = 0.3  # a family that agreed less than this before, or gained as much, was in other coordinates
LARGEST_R = 0.9999  # of Fisher's transform: nearer to 1 is rounding
LEAST_SPREAD = 0.02  # of Fisher's z between mismatched layers: a few cells can agree by chance
FEWEST_CELLS = 3  # mismatched pairs of layers from which a spread, and so a p-value, is told
MAPS = {
    "same": "the channels of the residual stream are in their order",
    "permuted": "channels of the residual stream in another order",
    "rotated": "the residual stream rotated",
}
ORDERS = {"reordered": "units inside layers in another order", "turned": "heads turned"}


def judge_recovery(reading: AlignedReading) -> tuple[RecoveredFamily, ...]:
    """Each family's figures, p-values corrected for the number of families."""
    groups: dict[tuple[str, str], list[AlignedRole]] = defaultdict(list)
    for role in reading.roles:
        groups[role.component, SHOWN_AS.get(role.family, role.family)].append(role)
    return tuple(_family(key, roles, len(groups)) for key, roles in sorted(groups.items()))


def _family(key: tuple[str, str], roles: Sequence[AlignedRole], tests: int) -> RecoveredFamily:
    layers: dict[int, list[AlignedRole]] = defaultdict(list)
    for role in roles:
        layers[role.layer].append(role)
    after = [_mean([_fisher(role.after) for role in group]) for group in layers.values()]
    cells = [
        _mean([_fisher(r) for r in cell]) for group in layers.values() for cell in zip(*(role.shifted for role in group), strict=False)
    ]
    p = _p_value(after, cells, tests)
    before = [role.before for role in roles if role.before is not None]
    orders: dict[str, int] = defaultdict(int)
    for role in roles:
        orders[role.order] += 1
    figures = RecoveredFamily(
        *key,
        layers=len(layers),
        before=_mean(before) if before else None,
        after=_mean([role.after for role in roles]),
        null_mean=math.tanh(_mean(cells)) if cells else None,
        null_sd=_sd(cells) if len(cells) >= FEWEST_CELLS else None,
        p_value=p,
        orders=dict(sorted(orders.items())),
        finding="none",
    )
    return replace(figures, finding=_finding(figures))


def _fisher(r: float) -> float:
    return math.atanh(max(-LARGEST_R, min(LARGEST_R, r)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _sd(values: Sequence[float]) -> float:
    middle = _mean(values)
    return math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1))


def _p_value(after: Sequence[float], cells: Sequence[float], tests: int) -> float | None:
    """Student's t of counterparts against mismatched layers, on Fisher's scale. Cells share layers: as free as both models' layers."""
    if len(cells) < FEWEST_CELLS or len(after) < 2:
        return None
    spread = max(_sd(cells), LEAST_SPREAD)
    t = (_mean(after) - _mean(cells)) / (spread * math.sqrt(1 / len(after) + 1 / len(cells)))
    return reported_p(min(1.0, tests * float(stdtr(2 * (len(after) - 1), -t))))


def _finding(family: RecoveredFamily) -> str:
    if family.p_value is None:
        return "not judged"
    if family.p_value > RECOVERED_P or family.after < RECOVERED_R:
        return "none"
    moved = family.before is None or family.before < MOVED_R or family.after - family.before >= MOVED_R
    return "recovered" if moved else "kept"


def recovery_sentences(maps: Mapping[str, ChannelMap], families: Sequence[RecoveredFamily]) -> list[str]:
    """What was undone and what it brought, then what strangers would show."""
    recovered = [family for family in families if family.finding == "recovered"]
    kept = [family for family in families if family.finding == "kept"]
    if not families:
        return ["Aligned test: no layers with counterparts could be held against each other."]
    if recovered:
        undone = "; ".join(_undone(maps, recovered))
        told = f"Aligned test: after undoing a change of coordinates ({undone}) the weights agree: {_listed(recovered)}."
        return [told, *_kept(kept)]
    if kept:
        return [f"Aligned test: no change of coordinates to undo; the weights agree as they are: {_listed(kept)}."]
    return [f"Aligned test: no order or rotation was found under which the weights agree beyond strangers': {_listed(families)}."]


def _undone(maps: Mapping[str, ChannelMap], families: Sequence[RecoveredFamily]) -> list[str]:
    kinds = {maps[f.component].kind for f in families if f.component in maps} - {"same"}
    turned = any(maps[f.component].turned for f in families if f.component in maps)
    orders = {order for f in families for order in f.orders if order in ORDERS}
    signs = ["signs of channels turned"] if turned else []
    return [*(MAPS[kind] for kind in sorted(kinds)), *signs, *(ORDERS[order] for order in sorted(orders))] or ["units matched one by one"]


def _kept(kept: Sequence[RecoveredFamily]) -> list[str]:
    return [f"Without any change {_listed(kept)}."] if kept else []


def _listed(families: Sequence[RecoveredFamily]) -> str:
    return ", ".join(_figures(family) for family in families)


def _figures(family: RecoveredFamily) -> str:
    name = family.family if family.component == "text" else f"{family.component} {family.family}"
    before = "-" if family.before is None else f"{family.before:.3f}"
    p = "too few layers for a p-value" if family.p_value is None else f"p {family.p_value:.1g}"
    null = "" if family.null_mean is None else f", mismatched layers {family.null_mean:.3f}"
    return f"{name} r {before} before, {family.after:.3f} after ({p}{null})"


def with_recovery(answer: CompareAnswer, reading: AlignedReading) -> CompareAnswer:
    """A comparison with what the aligned test adds: its sentences after the headline, its figures under `aligned`."""
    families = judge_recovery(reading)
    headline, *rest = answer.explanation
    maps = {component: replace(found, matrix=None) for component, found in reading.maps.items()}
    figures = Aligned(maps, tuple(families), reading.roles)
    return replace(answer, aligned=figures, explanation=(headline, *recovery_sentences(reading.maps, families), *rest))
