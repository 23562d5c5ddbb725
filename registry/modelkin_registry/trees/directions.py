"""Which of two related models came first: hints with reasons, never more. Weights carry no dates; a swapped pair looks much the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import ComponentEvidence, Relative
from modelkin_registry.answers.relations import COPIES
from modelkin_registry.claims.declared import Aliases, lineage_claims
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.trees.pairs.links import Link

FACT = 3.0  # what can hardly have gone the other way: rounding to a grid, zeros, repeated layers, a mixture made of dense layers, a merge
STRONG = 2.0  # what can, but is rare: a claim of the child's own folder, slopes, a random initialisation
WEAK = 1.0  # what orders things only if nothing else does: sizes of vocabularies, who is nearer to the rest, dates of registration
ONE_WAY = {
    "quantized": "its values lie on a quantiser's grid",
    "pruned": "it is pruned",
    "upcycled": "its experts come from dense layers",
}
UNCHANGED_R = (
    0.997  # shared numbers this close were not trained: light training leaves 0.99 and less, an 8-bit grid 0.9999, a 4-bit one 0.995
)
RESHAPED = ("layers rearranged", "vocabulary changed")
LEAN_Z = 4.0  # standard errors between the slopes of the two readings
DAYS_APART = 1.0  # models registered within a day of each other were registered together


class Hint(Struct, frozen=True):
    """A reason to think that `parent` came first; `reason` is about the other one unless it names a model."""

    parent: str
    child: str
    weight: float
    reason: str


class Beside(Struct, frozen=True):
    """What is known of the registered models beside their weights: claims and dates by name, and what names mean."""

    claims: Mapping[str, Iterable[Claim]]
    added: Mapping[str, str]
    aliases: Aliases


def hints(link: Link, fingerprints: Mapping[str, Fingerprint], beside: Beside) -> list[Hint]:
    """Everything that speaks for one direction of a link."""
    found = []
    for child, parent in ((link.a, link.b), (link.b, link.a)):
        said = [*_facts(link.view(child), link.view(parent), fingerprints[child], fingerprints[parent]), *_declared(child, parent, beside)]
        found += [Hint(parent, child, weight, reason) for weight, reason in said]
    return found + _slope(link) + _dates(link, beside)


def settled(link: Link, parent: str, child: str, beside: Beside) -> bool:
    """Whether something excludes that both come from a third model: the child holds the parent's numbers, but for what was done to it.

    A quantiser's grid or zeros on one side alone would be seen on a sibling too; only that nothing else was changed tells. A claim of the
    child's own folder settles it as far as anybody asks: it is shown as the reason.
    """
    if any(_declared(child, parent, beside)):
        return True
    view, back = link.view(child), link.view(parent)
    one_way = any(
        name in (view.relation, *view.also) and name not in (back.relation, *back.also) for name in (*ONE_WAY, "layers rearranged")
    )
    part = {view.relation, *view.also} <= COPIES
    return (one_way or part or "vocabulary changed" in (view.relation, *view.also)) and link.r >= UNCHANGED_R


def _facts(view: Relative, back: Relative, child: Fingerprint, parent: Fingerprint) -> Iterator[tuple[float, str]]:
    """What the weights alone say for `child` being made from `parent`; `view` is the parent as seen from the child."""
    names, others = {view.relation, *view.also}, {back.relation, *back.also}
    yield from ((FACT, reason) for name, reason in ONE_WAY.items() if name in names and name not in others)
    if "layers rearranged" in names:
        yield from _layers(view.components, child, parent)
    if "vocabulary changed" in names and _tokens(child) > _tokens(parent):
        yield WEAK, "its vocabulary is larger"
    if names <= COPIES and not others <= COPIES:
        yield STRONG, "it holds only a part of the other's weights, unchanged"
    if view.relation == "component reused" and back.relation != "component reused":
        yield WEAK, "it has components beside the shared one"
    folded, theirs = _folded(child), _folded(parent)
    if theirs and not folded and examine_start(parent).passed:
        yield STRONG, "the other is a random initialisation by all its numbers"
    if "reparameterised" in names and folded and not theirs:
        yield FACT, "its gains were folded into its matrices"
    if names == {"recast"} == others and _bits(child) < _bits(parent):
        yield FACT, "it is stored with fewer bits, and its values are the other's rounded"


def _layers(components: Iterable[ComponentEvidence], child: Fingerprint, parent: Fingerprint) -> Iterator[tuple[float, str]]:
    for component in components:
        theirs = [relative for _, relative in component.layer_map]
        depths = child.about.layers.get(component.query, 0), parent.about.layers.get(component.relative, 0)
        if len(set(theirs)) < len(theirs):
            yield FACT, "layers of the other occur in it more than once"
        elif len(theirs) == depths[0] < depths[1]:
            yield FACT, "all of its layers are the other's, which has more"


def _declared(child: str, parent: str, beside: Beside) -> Iterator[tuple[float, str]]:
    for claim, model in lineage_claims(beside.claims.get(child, ()), beside.aliases):
        if model == parent:
            yield STRONG, f"{claim.source} says {claim.kind} {claim.value!r}, and the weights are consistent with that"
            return


def _slope(link: Link) -> list[Hint]:
    if abs(link.lean) < LEAN_Z:
        return []
    child, parent = (link.a, link.b) if link.lean > 0 else (link.b, link.a)
    reason = f"it is the other plus independent changes rather than the reverse ({abs(link.lean):.0f} standard errors)"
    return [Hint(parent, child, STRONG, reason)]


def _dates(link: Link, beside: Beside) -> list[Hint]:
    at = {name: datetime.fromisoformat(beside.added[name]) for name in (link.a, link.b)}
    parent, child = sorted(at, key=lambda name: at[name])
    days = (at[child] - at[parent]).total_seconds() / 86_400
    return [Hint(parent, child, WEAK, f"it was registered {days:.0f} days later")] if days >= DAYS_APART else []


def _tokens(model: Fingerprint) -> int:
    table = model.matrices
    return max((int(table.rows[row]) for row, p in enumerate(table.places) if (p.family, p.role) == ("embedding", "token")), default=0)


def _bits(model: Fingerprint) -> int:
    return int(model.matrices.bits.max()) if len(model.matrices) else 0


def _folded(model: Fingerprint) -> bool:
    """Whether all gains have one value: an initialisation, or gains folded into the matrices."""
    gains = [bool(constant) for constant, p in zip(model.vectors.constant, model.vectors.places, strict=True) if p.family == "norm"]
    return bool(gains) and all(gains)
