"""What a fingerprint would hold had its tensors had their counterparts' names: how their sides are read, and what is told once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, Vectors
from modelkin_registry.counterparts.copying.alike import contents_of
from modelkin_registry.counterparts.moving import chosen_rows
from modelkin_registry.counterparts.pairing import DIGEST, SHAPE, Pair, Pairs
from modelkin_registry.counterparts.turned.ways import anchored_as_read
from modelkin_registry.evidence.similarity import is_folded


def seen_as(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Matrices:
    """The table of `side` as its counterparts are read. Gram and anchored sketches rest on names (which side faces the stream, the gains,
    the token table), so they are kept of no tensor but those that hold the counterpart's very numbers: of these it has the counterpart's.
    Where a model was read in every way that its shapes allow, its anchored sketches are those of the way that agrees with all counterparts.

    Vectors whose numbers stand in another order tell that channels of the stream do too, which Gram matrices see.
    """
    ordered = any(pair.found != SHAPE and reference.vectors.length[pair.theirs] > 1 for pair in pairs.vectors)
    return _read_as(side.matrices, reference.matrices, pairs.matrices, ("gram", "anchored") if ordered else ("anchored",))


def _read_as(table: Matrices, other: Matrices, pairs: Sequence[Pair], told: Sequence[str]) -> Matrices:
    ours, theirs = _rows(pairs)
    side = table.side.copy()
    side[ours] = other.side[theirs]
    folded = [(a, b) for a, b in zip(ours, theirs, strict=True) if is_folded(table, a)]
    scale = table.scale.copy()
    scale[[a for a, _ in folded]] = other.scale[[b for _, b in folded]]  # a single expert's is not known
    equal = [pair for pair in pairs if pair.found == DIGEST and _same_numbers(table, other, pair)]
    a, b = _rows(equal)
    sketches = {}
    for channel in ("gram", "anchored"):
        mine, their = getattr(table, channel), getattr(other, channel)
        sketches[channel] = np.zeros((len(table), max(mine.shape[1], their.shape[1])), np.float16)
        sketches[channel][:, : mine.shape[1]] = mine
        sketches[channel][ours] = 0
        if channel == "anchored" and their.shape[1] and table.readings.shape[1]:
            sketches[channel] = anchored_as_read(table, other, pairs)
        if channel in told and their.shape[1]:
            sketches[channel][a] = their[b]
    return replace(table, side=side, scale=scale, gram=sketches["gram"], anchored=sketches["anchored"])


def _rows(pairs: Sequence[Pair]) -> tuple[list[int], list[int]]:
    return [pair.ours for pair in pairs], [pair.theirs for pair in pairs]


def _same_numbers(table: Matrices, other: Matrices, pair: Pair) -> bool:
    """Whether neither is turned round: what is read along one axis is then read along the same."""
    return bool((table.numbers[pair.ours] == other.numbers[pair.theirs]).all())


def without_twins(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> tuple[Fingerprint, Pairs]:
    """`side` without tensors outside all layers that hold what another of its own holds: a head that is the token table is told once."""
    twins = _twins(side.matrices, reference.matrices.places, pairs.matrices), _twins(side.vectors, reference.vectors.places, pairs.vectors)
    if not any(twins):
        return side, pairs
    matrices, fewer_matrices = _without(len(side.matrices), twins[0], pairs.matrices)
    vectors, fewer_vectors = _without(len(side.vectors), twins[1], pairs.vectors)
    lost = int(side.matrices.parameters[sorted(twins[0])].sum()) + int(side.vectors.length[sorted(twins[1])].sum())
    about = replace(side.about, parameters=side.about.parameters - lost)
    tables = chosen_rows(side.matrices, matrices), chosen_rows(side.vectors, vectors)
    return replace(side, matrices=tables[0], vectors=tables[1], about=about), Pairs(fewer_matrices, fewer_vectors)


def _twins(table: Matrices | Vectors, places: Sequence[Place], pairs: Sequence[Pair]) -> set[int]:
    told: dict[tuple[int, bytes], int] = {}  # counterpart and contents -> the row that tells them
    twins = set()
    for pair in sorted(pairs, key=lambda p: (p.repeats, p.ours)):
        if pair.found != SHAPE and places[pair.theirs].layer == NO_LAYER:
            first = told.setdefault((pair.theirs, contents_of(table, pair.ours)), pair.ours)
            if first != pair.ours or (pair.repeats and pair.found == DIGEST and isinstance(table, Matrices)):
                twins.add(pair.ours)
    return twins


def _without(count: int, twins: set[int], pairs: Sequence[Pair]) -> tuple[npt.NDArray[np.int64], tuple[Pair, ...]]:
    kept = np.array([row for row in range(count) if row not in twins], np.int64)
    at = {int(row): number for number, row in enumerate(kept)}
    return kept, tuple(pair._replace(ours=at[pair.ours]) for pair in pairs if pair.ours in at)
