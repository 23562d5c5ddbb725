"""Layers of a merge told apart: which relative each layer of the query came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from modelkin_registry.answers.evidence import ComponentEvidence, Relative

SAME_LAYER_R = 1 - 1e-4  # a layer taken over unchanged agrees to the rounding of stored sketches
OTHER_LAYER_R = 1 - 1e-3  # and one that belongs to a close relative does not
PARENT_LAYERS = 2  # layers of its own that make a relative a parent of the merge


def attribute_layers(relatives: Sequence[Relative]) -> list[Relative]:
    """Where layers of the query are unchanged copies, some of one relative's and others of another's, name it a merge by layers.

    Each layer is then left to the relatives that hold it unchanged; a fine-tune of a parent would else claim the parent's layers too.
    """
    owned = {relative.model: _unchanged_layers(relative) for relative in relatives}
    parents = [r for r in relatives if len(owned[r.model]) >= PARENT_LAYERS and _has_foreign_layers(r, relatives, owned)]
    if len(parents) < 2:
        return list(relatives)
    names = {parent.model for parent in parents}
    return [_as_parent(r, owned[r.model]) if r.model in names else r for r in relatives]


def _unchanged_layers(relative: Relative) -> set[tuple[str, int]]:
    return {(c.query, ours) for c in relative.components for ours, r in _layer_cosines(c).items() if r >= SAME_LAYER_R}


def _layer_cosines(component: ComponentEvidence) -> dict[int, float]:
    """The lowest cosine of an inherited informative family in each mapped layer."""
    lowest: dict[int, float] = {}
    for family in component.families:
        if family.informative and family.inherited and family.channel == "probe":
            for ours, _, r in family.layers:
                lowest[ours] = min(r, lowest.get(ours, 1.0))
    return lowest


def _has_foreign_layers(relative: Relative, relatives: Sequence[Relative], owned: dict[str, set[tuple[str, int]]]) -> bool:
    """Whether some mapped layer of this relative clearly differs from it and is another relative's unchanged."""
    differing = {(c.query, ours) for c in relative.components for ours, r in _layer_cosines(c).items() if r < OTHER_LAYER_R}
    return any(differing & owned[other.model] for other in relatives if other.model != relative.model)


def _as_parent(relative: Relative, owned: set[tuple[str, int]]) -> Relative:
    components = tuple(
        replace(c, layer_map=tuple(pair for pair in c.layer_map if (c.query, pair[0]) in owned)) for c in relative.components
    )
    also = tuple(name for name in (relative.relation, *relative.also) if name != "merged")
    return replace(relative, relation="merged", also=also, components=components)


class LayerMerge(Struct, frozen=True):
    """Which registered model's which layer each layer of a component is: (component, layer, model, its layer), in order."""

    layers: tuple[tuple[str, int, str, int], ...]

    @property
    def shares(self) -> dict[str, float]:
        """Each parent's share of the layers, parents in the order of their first layer."""
        models = [model for _, _, model, _ in self.layers]
        return {model: models.count(model) / len(models) for model in dict.fromkeys(models)}


def layer_merge(relatives: Sequence[Relative]) -> LayerMerge | None:
    """The layers of those that `attribute_layers` called parents; a layer that several hold is the first one's."""
    owners: dict[tuple[str, int], tuple[str, int]] = {}
    for relative in relatives:
        if relative.relation == "merged":
            for component in relative.components:
                for ours, theirs in component.layer_map:
                    owners.setdefault((component.query, ours), (relative.model, theirs))
    found = LayerMerge(tuple((*place, *owner) for place, owner in sorted(owners.items())))
    return found if len(found.shares) > 1 else None
