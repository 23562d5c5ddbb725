"""Which tensor of A stands where which tensor of B does: places matched, shapes checked, what cannot be compared named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelkin_indexer.places import NO_LAYER, Anatomy, Piece, Place
from modelkin_indexer.results.exact import NotCompared

TOKEN_TABLES = (("embedding", "token"), ("head", "head"))
# A component of A -> its counterpart in B, and which layer of B stands against which of A. What has no entry keeps its name and number.
LayerMaps = Mapping[str, tuple[str, Sequence[tuple[int, int]]]]


@dataclass(frozen=True)
class PlacePair:
    """Two pieces that are compared: their first `rows` rows in each view."""

    a: Piece
    b: Piece
    rows: int

    @property
    def numbers(self) -> int:
        return self.rows * self.a.views[0].columns * len(self.a.views) if self.same_views else self.a.parameters

    @property
    def same_views(self) -> bool:
        return len(self.a.views) == len(self.b.views) and self.a.views[0].columns == self.b.views[0].columns


def pair_places(a: Anatomy, b: Anatomy, layer_maps: LayerMaps | None = None) -> tuple[list[PlacePair], list[NotCompared]]:
    """Counterparts in the order of A's places, and the places of either side that have none."""
    theirs = {piece.place: piece for piece in b.pieces}
    pairs, left = [], []
    met = set()
    for piece in a.pieces:
        other = theirs.get(_counterpart(piece.place, layer_maps or {}))
        met.add(other.place if other is not None else None)
        pair, reason = _pair(piece, other)
        if pair is not None:
            pairs.append(pair)
        else:
            left.append(NotCompared(*piece.place, piece.views[0].tensor, reason))
    return pairs, left + [NotCompared(*p.place, p.views[0].tensor, "A has no such place") for p in b.pieces if p.place not in met]


def _counterpart(place: Place, layer_maps: LayerMaps) -> Place:
    component, layers = layer_maps.get(place.component, (place.component, ()))
    if place.layer == NO_LAYER or not layers:
        return place._replace(component=component)
    return place._replace(component=component, layer=dict(layers).get(place.layer, place.layer))


def _pair(a: Piece, b: Piece | None) -> tuple[PlacePair | None, str]:
    if b is None:
        return None, "B has no such place"
    if a.is_vector and b.is_vector:
        same = a.parameters == b.parameters
        return (PlacePair(a, b, 1), "") if same else (None, f"{a.parameters} numbers against {b.parameters}")
    first, second = a.views[0], b.views[0]
    if len(a.views) != len(b.views):
        return None, f"{len(a.views)} matrices against {len(b.views)}"
    if first.columns == second.columns and (first.rows == second.rows or (a.place.family, a.place.role) in TOKEN_TABLES):
        return PlacePair(a, b, min(first.rows, second.rows)), ""
    return None, f"shape {first.rows} x {first.columns} against {second.rows} x {second.columns}"
