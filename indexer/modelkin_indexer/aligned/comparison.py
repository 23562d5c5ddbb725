"""Two models held against each other after undoing a change of coordinates: first of the residual stream, then of units inside layers.

Nothing is judged on what it was fitted on: the map of channels is fitted on token rows and judged on others and on all layers; the order of
units is fitted on half of the channels and judged on the other half. The same is done with layers that are no counterparts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.aligned.channel_maps import find_channel_map
from modelkin_indexer.aligned.finite_rows import finite_rows
from modelkin_indexer.aligned.unit_matching import HEADS, Flags, Match, Side, assign, correlation, halves, sample, take, turn
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.anatomy.parts import anatomy_of, config_of
from modelkin_indexer.exact.pairing import LayerMaps, PlacePair
from modelkin_indexer.fingerprinting.indexing import gains_less_one
from modelkin_indexer.places import NO_LAYER, Anatomy, Piece, Place
from modelkin_indexer.results.aligned import AlignedReading, AlignedRole, ChannelMap
from modelkin_indexer.source import Source

Singles = npt.NDArray[np.float32]
JOINT = ("mlp", "expert")  # families whose roles have one order of units: neurons
HEADED = ("q", "k", "v", "o")
FEWEST_NULLS = 12  # mismatched pairs of layers wanted for the spread of the null; a shallow model gives fewer
AS_WELL = 0.98  # of the best order's r: the simplest order that does as well is told


Told = Callable[[int], None]


def read_aligned(a: Source, b: Source, layer_maps: LayerMaps | None = None, progress: Told = lambda _: None) -> AlignedReading:
    """Undo what can be undone, component by component. `progress` is told the number of layers done.

    Raises:
        SourceError: weights cannot be read.
    """
    ours, theirs = anatomy_of(a, b.config), anatomy_of(b, a.config)
    maps: dict[str, ChannelMap] = {}
    roles: list[AlignedRole] = []
    for component in ours.layers:
        counterpart, given = (layer_maps or {}).get(component, (component, ()))
        pairs = list(given) or [(i, i) for i in range(min(ours.layers[component], theirs.layers.get(counterpart, 0)))]
        found = find_channel_map(a, b, _tables(ours, theirs, component, counterpart))
        if found is not None:
            maps[component] = found
        matrix = None if found is None else found.matrix
        roles += _layers(_Layers(a, ours, component), _Layers(b, theirs, counterpart), pairs, matrix, progress)
    return AlignedReading(maps, tuple(roles))


def _tables(ours: Anatomy, theirs: Anatomy, component: str, counterpart: str) -> list[PlacePair]:
    """Tables outside the layers with the same rows on both sides, however many channels they have."""
    others = {piece.place: piece for piece in theirs.pieces}
    found = []
    for piece in ours.pieces:
        other = others.get(piece.place._replace(component=counterpart))
        if other is not None and piece.place.component == component and piece.place.layer == NO_LAYER:
            found.append(PlacePair(piece, other, min(piece.views[0].rows, other.views[0].rows)))
    return found


class _Layers:
    """The matrices of one component's layers, and the gains that they read."""

    def __init__(self, source: Source, anatomy: Anatomy, component: str) -> None:
        self.source, self.component = source, component
        self._vectors = {piece.place: piece for piece in anatomy.pieces if piece.is_vector}
        self._layers: dict[int, dict[tuple[str, str], Piece]] = defaultdict(dict)
        for piece in anatomy.pieces:
            if piece.place.component == component and piece.place.layer != NO_LAYER and piece.residual != "none":
                self._layers[piece.place.layer][piece.place.family, piece.place.role] = piece

    def side(self, layer: int, key: tuple[str, str]) -> Side | None:
        piece = self._layers[layer].get(key)
        return None if piece is None else Side(self.source, piece, self._gain(piece))

    def keys(self, layer: int) -> list[tuple[str, str]]:
        return sorted(self._layers[layer])

    def _gain(self, piece: Piece) -> Singles | None:
        norm = self._vectors.get(piece.reads_norm) if isinstance(piece.reads_norm, Place) else None
        if norm is None or piece.residual != "in" or norm.parameters != piece.views[0].columns:
            return None
        view = norm.views[0]
        gain = finite_rows(self.source, view, 0, view.rows).ravel()
        return gain + np.float32(gains_less_one(self.source, norm))

    def head_size(self, piece: Piece) -> int | None:
        return layouts.config_shape(config_of(self.source, piece.views[0].tensor), self.component, None).head_size


def _layers(a: _Layers, b: _Layers, pairs: Sequence[tuple[int, int]], matrix: Singles | None, progress: Told) -> Iterator[AlignedRole]:
    distinct = sorted({layer for _, layer in pairs})
    shifts = min(len(distinct) - 1, -(-FEWEST_NULLS // max(len(pairs), 1)))
    for layer, other in pairs:
        at = distinct.index(other)
        strangers = [distinct[(at + shift) % len(distinct)] for shift in range(1, shifts + 1)]
        for keys in _groups(a, layer):
            yield from _group(a, b, keys, layer, [other, *strangers], matrix)
        progress(1)


def _groups(a: _Layers, layer: int) -> Iterator[list[tuple[str, str]]]:
    """Roles that share one order of units together, the others one by one."""
    joint: dict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for key in a.keys(layer):
        side = a.side(layer, key)
        if side is not None:
            joint[(key[0], side.units) if key[0] in JOINT else ("/".join(key), 0)].append(key)
    yield from joint.values()


def _group(
    a: _Layers, b: _Layers, keys: Sequence[tuple[str, str]], layer: int, others: Sequence[int], matrix: Singles | None
) -> Iterator[AlignedRole]:
    first = [side for key in keys if (side := a.side(layer, key)) is not None]
    found = [_searched(a, first, [b.side(other, key) for key in keys], matrix) for other in others]
    if found[0] is None:
        return
    match, before = found[0]
    held = int(np.count_nonzero(halves(first[0].channels)[1]))
    for at, (key, side) in enumerate(zip(keys, first, strict=True)):
        shifted = tuple(one[0].r[at] for one in found[1:] if one is not None)
        units = len(sample(first, side.units))
        place = (a.component, layer, others[0], *key)
        yield AlignedRole(*place, units, side.units, held, match.order, before[at], match.r[at], shifted)


Before = tuple[float | None, ...]


def _searched(a: _Layers, ours: Sequence[Side], theirs: Sequence[Side | None], matrix: Singles | None) -> tuple[Match, Before] | None:
    """The order of units that does best on held out channels, and the correlation before anything is undone."""
    sides = [side for side in theirs if side is not None]
    into = (ours[0].channels,) * 2 if matrix is None else matrix.shape
    if len(sides) < len(ours) or any(side.channels != into[1] for side in sides) or any(side.channels != into[0] for side in ours):
        return None
    if any(side.units != sides[0].units for side in sides):
        return None
    fit, held = halves(into[1])
    if matrix is not None:
        reached = np.any(matrix, axis=0)
        fit, held = fit & reached, held & reached
    units = sample(ours, sides[0].units)
    stored = [take(side, units) for side in ours]
    moved = [one if matrix is None else one @ matrix for one in stored]
    same = all(one.units == other.units for one, other in zip(ours, sides, strict=True))
    found: list[Match] = []
    before: Before = (None,) * len(ours)
    if same:
        theirs_there = [take(side, units) for side in sides]
        found.append(Match("same", tuple(correlation(one, other, held) for one, other in zip(moved, theirs_there, strict=True))))
        if stored[0].shape[1] == into[1]:
            before = tuple(correlation(one, other, held) for one, other in zip(stored, theirs_there, strict=True))
            if matrix is not None:
                found.append(Match("as stored", tuple(r or 0.0 for r in before)))
    found.append(assign(sides, moved, fit, held))
    found += _turned(a, ours, sides, matrix, fit, held)
    best = max(_mean(match) for match in found)
    return next(match for match in found if _mean(match) >= min(AS_WELL * best, best)), before


def _mean(match: Match) -> float:
    return float(np.mean(np.abs(match.r)))


def _turned(a: _Layers, ours: Sequence[Side], theirs: Sequence[Side], matrix: Singles | None, fit: Flags, held: Flags) -> Iterator[Match]:
    """Heads turned one by one, where the size of a head is known."""
    side, other = ours[0], theirs[0]
    size = a.head_size(side.piece)
    if side.piece.place.role not in HEADED or not size or side.units % size or other.units % size or len(side.piece.views) > 1:
        return
    chosen = np.unique(np.linspace(0, side.units // size - 1, min(HEADS, side.units // size)).astype(np.intp))
    ours_whole = take(side, (chosen[:, None] * size + np.arange(size)).ravel())
    yield turn(other, ours_whole if matrix is None else ours_whole @ matrix, size, fit, held)
