"""Merges in words and as the contract's JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from modelkin_registry.answers.asked import LayerOf, Merge, MergeByLayer, MergedLayer, MergeParent, MergePart, MergeWeight
from modelkin_registry.answers.parts import ALTERNATIVES
from modelkin_registry.answers.relations import DESCENT_FREE

if TYPE_CHECKING:
    from modelkin_registry.answers.evidence import ComponentEvidence, Relative
    from modelkin_registry.merging.by_layer import LayerMerge
    from modelkin_registry.merging.decomposition import Decomposition, Part

HOW = {
    "linear": "a weighted merge of registered models",
    "slerp": "a spherical merge (slerp) of two registered models",
    "task arithmetic": "a weighted merge of registered models' changes from a base (task arithmetic)",
    "gradient": "a merge of registered models whose weights change over the layers",
    "sparsified": "a merge that keeps a part of each parent's change, dropped at random (as DARE does)",
    "sign election": "a merge that keeps each parent's largest changes and elects their signs (as TIES does)",
}
START = "shared initialisation"
ILL = 1e4  # condition number from which weights are called hard to tell apart
TRAINED = "models trained on the texts of both, at once or in turn, look much the same in sketches"


def merge_object(found: Decomposition) -> Merge:
    """The contract's `merge` object."""
    return Merge(
        parents=tuple(MergeParent(p.model, round(p.weight, 4), _sd(p.sd)) for p in found.parents),
        residual=round(found.residual, 5),
        method=found.method or None,
        rounding=round(found.rounding, 5),
        complete=found.complete,
        base=found.base,
        components=tuple(map(_part, found.components)),
        layers=tuple(map(_part, found.layers)),
        norms=_part(found.norms) if found.norms else None,
        alike=found.alike,
        condition=round(found.condition, 1),
    )


def layer_object(found: LayerMerge) -> MergeByLayer:
    """The same for a merge by layers: a weight is a parent's share of the layers, and layers say where they are from."""
    layers = (MergedLayer(f"layer {layer}", component, layer, LayerOf(model, theirs)) for component, layer, model, theirs in found.layers)
    parents = tuple(MergeParent(model, round(share, 4), None) for model, share in found.shares.items())
    return MergeByLayer(parents, None, "by layer", tuple(layers))


def layer_sentence(subject: str, found: LayerMerge) -> str:
    """`x is best explained as a merge by layers: 50 % of its layers are A's, 50 % B's.`"""
    shares = ", ".join(f"{share:.0%} {model}'s" for model, share in found.shares.items())
    return f"{subject} is best explained as a merge by layers: of its layers that are another's unchanged, {shares}."


def _part(part: Part) -> MergePart:
    weights = (MergeWeight(round(w, 4), _sd(sd)) for w, sd in zip(part.weights, part.sds, strict=True))
    return MergePart(part.part, part.component or None, part.layer, tuple(weights), round(part.residual, 5))


def _sd(value: float) -> float:
    """Two digits, so that a small error is not shown as none."""
    return float(f"{value:.2g}")


def merge_sentences(subject: str, found: Decomposition) -> list[str]:
    """What was found, what is left, and what cannot be told, in this order."""
    sentences = [headline(subject, found), _rest(found)] if found.is_merge else [_no_merge(subject, found), _rest(found)]
    if found.is_merge and found.base and found.base not in found.names:
        sentences.append(f"The parents' changes from {found.base} are nearly at right angles, as fine-tunes' from their common base are.")
    sentences += _doubts(found)
    return sentences


def headline(subject: str, found: Decomposition) -> str:
    """`x is best explained as a weighted merge of registered models: 0.65 (sd 0.01) A + 0.35 (sd 0.01) B.`"""
    return f"{subject} is best explained as {HOW[found.method]}: {mix(found)}."


def mix(found: Decomposition) -> str:
    """`0.65 (sd 0.01) A + 0.35 (sd 0.01) B`; seen from the base where one is among the parents."""
    if found.method in ("task arithmetic", "sparsified", "sign election"):
        changes = [f"{p.weight:.2f} (sd {p.sd:.2g}) of the change to {p.model}" for p in found.parents if p.model != found.base]
        return f"{found.base} + " + " + ".join(changes)
    return " + ".join(f"{p.weight:.2f} (sd {p.sd:.2g}) {p.model}" for p in found.parents)


def _rest(found: Decomposition) -> str:
    left = f"{found.residual:.2%} of its size is left unexplained"
    if found.complete:
        return f"{left}, no more than the rounding of its numbers leaves ({found.rounding:.2%})."
    if found.method == "sign election":
        return f"{left}, which electing signs leaves too; weights are shares of each change that are still there."
    if found.method == "sparsified":
        return f"{left}, which random dropping leaves too; weights are shares of each change that are still there."
    reasons = "a parent is missing, or it was changed after the merge" if found.is_merge else "these models do not explain it"
    return f"{left}, more than the rounding of its numbers leaves ({found.rounding:.2%}): {reasons}."


def _no_merge(subject: str, found: Decomposition) -> str:
    if len(found.parents) == 1:
        return f"{subject} was held against {found.parents[0].model} alone, which makes no merge."
    return f"{subject} is not called a merge of these models (nearest mix: {mix(found)}): {TRAINED}."


def _doubts(found: Decomposition) -> Iterator[str]:
    for first, second in found.alike:
        yield f"{first} and {second} are nearly the same beside what was changed: {second} could stand in for {first} here."
    if found.condition > ILL:
        yield f"The parents' differences are of very unequal sizes (condition number {found.condition:.0f}); look at the standard errors."


def mark_parents(relatives: Sequence[Relative], found: Decomposition | None) -> list[Relative]:
    """The relatives with the merge's parents called `merged`, and first among them; their common base is `merged` as well."""
    if not (found and found.is_merge):
        return list(relatives)
    return sorted((_marked(relative, found) for relative in relatives), key=lambda relative: relative.relation != "merged")


def _taking_part(relative: Relative) -> Relative:
    """A parent that by itself shows no more than a common start: its weights in a merge that leaves nothing unexplained are descent."""
    components = tuple(_all_of(one) if one.relation == START else one for one in relative.components)
    parts = tuple(replace(one, relation="merged", shared=one.compared) if one.relation == START else one for one in relative.parts)
    sizes = [(f.parameters, f.inherited) for one in components for f in one.families if f.informative]
    share = sum(size for size, inherited in sizes if inherited) / max(sum(size for size, _ in sizes), 1)
    return replace(
        relative,
        relation="merged",
        shared=round(share, 4),
        shared_of_all=round(share * relative.compared, 4),
        components=components,
        parts=parts,
        alternatives=ALTERNATIVES,
        lone=(),
    )


def _all_of(component: ComponentEvidence) -> ComponentEvidence:
    """A component all of which takes part, but for what contradicts itself."""
    informative = [f.informative and f.r is not None and not f.contradicted for f in component.families]
    families = tuple(replace(f, inherited=f.inherited or taken) for f, taken in zip(component.families, informative, strict=True))
    return replace(component, relation="merged", shared=1.0, families=families)


def _marked(relative: Relative, found: Decomposition) -> Relative:
    if relative.relation == START and found.complete and relative.model in found.names:
        return _taking_part(relative)
    if relative.relation in DESCENT_FREE or "merged" in (relative.relation, *relative.also):
        return relative
    if relative.model in found.names:
        return replace(relative, relation="merged", also=(relative.relation, *relative.also))
    return replace(relative, also=(*relative.also, "merged")) if relative.model == found.base else relative
