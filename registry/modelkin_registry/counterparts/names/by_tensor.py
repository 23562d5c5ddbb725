"""A model whose names tell nothing, or lie: each tensor gets the place of its counterpart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import About, Experts, Fingerprint
from modelkin_registry.counterparts.moving import Places, moved
from modelkin_registry.counterparts.names.seen_as import seen_as
from modelkin_registry.counterparts.opened import numbered
from modelkin_registry.counterparts.pairing import Pair, Pairs

Key = tuple[str, int, int]  # component, layer and number of the copy


def by_tensor(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
    """`side` (ours in the pairs) in the places of its counterparts. Layers are counted anew: those of which there are copies repeat."""
    matrices, vectors = _copies(reference.matrices.places, pairs.matrices), _copies(reference.vectors.places, pairs.vectors)
    matrices = _as_experts(matrices)
    # A vector that only looks like another's counterpart is no layer: copies of a layer are those of its matrices.
    layers = _numbered({key for key, _ in matrices.values()} | {key for key, _ in vectors.values() if key[2] == 0})
    places = moved(side.matrices.places, _wanted(matrices, layers))
    vector_places = moved(side.vectors.places, _wanted(vectors, layers))
    return replace(
        side,
        matrices=replace(seen_as(side, reference, pairs), places=places),
        vectors=replace(side.vectors, places=vector_places),
        experts=_moved_experts(side.experts, side.matrices.places, places),
        about=_about(side, places, vector_places, pairs),
    )


def _copies(theirs: Places, pairs: Sequence[Pair]) -> dict[int, tuple[Key, Place]]:
    """Of each of our rows the place of its counterpart, and which copy of it this is."""
    count: Counter[int] = Counter()
    found = {}
    for pair in sorted(pairs, key=lambda p: (p.theirs, p.repeats, p.ours)):
        place = theirs[pair.theirs]
        found[pair.ours] = (place.component, place.layer, count[pair.theirs]), place
        count[pair.theirs] += 1
    return found


def _as_experts(found: dict[int, tuple[Key, Place]]) -> dict[int, tuple[Key, Place]]:
    """Copies of a layer's MLP alone, while all else of the layer is there once, are experts made from it."""
    most: dict[tuple[str, int, bool], int] = {}
    for (component, layer, copy), place in found.values():
        at = component, layer, place.family == "mlp"
        most[at] = max(most.get(at, 0), copy + 1)
    grown = {
        (component, layer) for (component, layer, mlp), count in most.items() if mlp and count > most.get((component, layer, False), count)
    }
    moved_in = {}
    for row, (key, place) in found.items():
        if place.family == "mlp" and key[:2] in grown and key[1] != NO_LAYER:
            key, place = (*key[:2], 0), place._replace(family="expert", role=numbered(place.role, key[2]))
        moved_in[row] = key, place
    return moved_in


def _numbered(keys: set[Key]) -> dict[Key, int]:
    """Layers counted anew, copies behind their first."""
    layers: dict[Key, int] = {}
    count: Counter[str] = Counter()
    for key in sorted(key for key in keys if key[1] != NO_LAYER):
        layers[key] = count[key[0]]
        count[key[0]] += 1
    return layers


def _wanted(found: Mapping[int, tuple[Key, Place]], layers: Mapping[Key, int]) -> dict[int, Place]:
    return {row: place._replace(layer=layers.get(key, NO_LAYER)) for row, (key, place) in found.items() if key in layers or key[2] == 0}


def _moved_experts(experts: Experts, before: Places, after: Places) -> Experts:
    """Single experts follow the stacks that they are of."""
    layers = {(a.component, a.layer): (b.component, b.layer) for a, b in zip(before, after, strict=True) if a.family == "expert"}
    return replace(experts, places=tuple(Place(*layers.get(p[:2], p[:2]), *p[2:]) for p in experts.places))


def _about(side: Fingerprint, matrices: Places, vectors: Places, pairs: Pairs) -> About:
    """What is known of the model under its new names: its parts, their layers, and how much of it has a known place now."""
    about, table = side.about, side.matrices
    known = int(table.parameters[sorted({pair.ours for pair in pairs.matrices})].sum()) / max(int(table.parameters.sum()), 1)
    unread = min(1.0, sum(entry["bytes"] for entry in about.unread) / max(about.bytes_total, 1))  # no name tells of that
    layers: dict[str, int] = {}
    for place in (*matrices, *vectors):
        if place.layer != NO_LAYER:
            layers[place.component] = max(layers.get(place.component, 0), place.layer + 1)
    return replace(
        about,
        components=tuple(sorted({place.component for place in (*matrices, *vectors)})),
        layers=dict(sorted(layers.items())),
        coverage=max(about.coverage, round(known * (1 - unread), 6)),
        guessed=round(about.guessed * (1 - known), 6),
    )
