"""Which tensor of A stands for which of B: by what they hold where that is known, else by place; shapes checked, the rest named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import NO_LAYER, Anatomy, Piece, Place, name_of
from modelkin_indexer.results.exact import NotCompared

TOKEN_TABLES = (("embedding", "token"), ("head", "head"))
# A component of A -> its counterpart in B, and which layer of B stands against which of A. What has no entry keeps its name and number.
LayerMaps = Mapping[str, tuple[str, Sequence[tuple[int, int]]]]
Contents = Mapping[str, str]  # a tensor of A by its place's name -> the one of B that holds what it does, whatever both are called


class PlacePair(Struct, frozen=True):
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


def pair_places(
    a: Anatomy, b: Anatomy, layer_maps: LayerMaps | None = None, contents: Contents | None = None
) -> tuple[list[PlacePair], list[NotCompared]]:
    """Counterparts in the order of A's places, and the places of either side that have none.

    `contents` goes before the places; where neither tells one, and a name tells nothing, a shape does that is there once.
    """
    found = _by_contents(a, b, contents or {})
    taken = {piece.place for piece in found.values()}
    free = {piece.place: piece for piece in b.pieces if piece.place not in taken}
    placed = {piece.place: free.get(_counterpart(piece.place, layer_maps or {})) for piece in a.pieces if piece.place not in found}
    found |= {place: other for place, other in placed.items() if other is not None}
    taken |= {piece.place for piece in found.values()}
    found |= _by_shape([p for p in a.pieces if p.place not in found], [p for p in b.pieces if p.place not in taken])
    pairs, left = [], []
    met = {piece.place for piece in found.values()}
    for piece in a.pieces:
        other = found.get(piece.place)
        pair, reason = _pair(*_under_one_name(piece, other))
        if pair is not None:
            pairs.append(pair)
        else:
            left.append(NotCompared(*piece.place, piece.views[0].tensor, reason))
    return pairs, left + [NotCompared(*p.place, p.views[0].tensor, "A has no such place") for p in b.pieces if p.place not in met]


def _by_contents(a: Anatomy, b: Anatomy, contents: Contents) -> dict[Place, Piece]:
    """Of A's places the piece of B that holds the same, where it has the same shape."""
    theirs = {name_of(piece.place): piece for piece in b.pieces}
    found = {piece.place: (piece, theirs.get(contents.get(name_of(piece.place), ""))) for piece in a.pieces}
    return {place: other for place, (piece, other) in found.items() if other is not None and _pair(piece, other)[0] is not None}


def _by_shape(ours: Sequence[Piece], theirs: Sequence[Piece]) -> dict[Place, Piece]:
    """Of places whose names tell nothing those that alone are of their shape, on either side."""
    shapes = [Counter(map(_shape, side)) for side in (ours, theirs)]
    other = {_shape(piece): piece for piece in theirs if not piece.named}
    alone = [piece for piece in ours if not piece.named and all(side[_shape(piece)] == 1 for side in shapes)]
    return {piece.place: other[_shape(piece)] for piece in alone if _shape(piece) in other}


def _shape(piece: Piece) -> tuple[bool, tuple[tuple[int, int], ...]]:
    return piece.is_vector, tuple((view.rows, view.columns) for view in piece.views)


def _under_one_name(a: Piece, b: Piece | None) -> tuple[Piece, Piece | None]:
    """Both in the place of the one whose name tells it, where the other's name tells nothing."""
    if b is None or a.named == b.named:
        return a, b
    if a.named:
        return a, replace(b, place=a.place, residual=a.residual)
    return replace(a, place=b.place, residual=b.residual), b


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
