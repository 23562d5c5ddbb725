"""Which tensors of two models stand for each other by what they hold: digests first, then sketches, and names for what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.counterparts.assignment import PAIR_P, by_sketches, repeated
from modelkin_registry.counterparts.contents import same_contents, same_vectors
from modelkin_registry.counterparts.opened import grown_from
from modelkin_registry.counterparts.pairing import NAME, SKETCH, Pair, Pairs, grouped, same_places
from modelkin_registry.counterparts.turned.readings import has_readings, read_as
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import sketch_noise, two_sided_p
from modelkin_registry.evidence.places import SAME_NORM_R

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
SETTLED_R = 0.8  # tensors of one place that agree so far need no other counterpart
NAMES_AGREE = 0.95  # share of the query's numbers that names settle, from which contents are not asked


def matched(query: Fingerprint, relative: Fingerprint, judge: Judge, *, nameless: bool = False) -> Pairs:
    """Pairs made by contents, with those that names make beside them; none where contents do not speak against the names.

    `nameless`: names of a side tell nothing, so that what contents do not pair is paired by shape: then what they bear out is kept.
    """
    table, other = query.matrices, relative.matrices
    named = same_places(table.places, other.places)
    settled = _settled(table, other, named)
    if table.parameters[settled].sum() >= NAMES_AGREE * table.parameters.sum():
        return Pairs()
    pairs = list(same_contents(table, other))
    mine, their = {pair.ours for pair in pairs}, {pair.theirs for pair in pairs}
    pairs += [Pair(a, b, NAME) for a in np.flatnonzero(settled).tolist() if a not in mine and (b := int(named[a])) not in their]
    pairs += by_sketches(query, relative, _rest(len(table), (p.ours for p in pairs)), _rest(len(other), (p.theirs for p in pairs)), judge)
    pairs += _in_other_coordinates(query, relative, pairs, judge)
    if not (nameless and pairs) and not any(at_odds(table.places[pair.ours], other.places[pair.theirs]) for pair in pairs):
        return Pairs()
    used = sorted({pair.theirs for pair in pairs})
    pairs += repeated(query, relative, _rest(len(table), (p.ours for p in pairs)), used, judge)
    return Pairs(tuple(pairs), tuple(_vectors(query, relative)))


def _in_other_coordinates(query: Fingerprint, relative: Fingerprint, pairs: Sequence[Pair], judge: Judge) -> list[Pair]:
    """Pairs of what is left where the names of one side tell nothing."""
    mine, others = _rest(len(query.matrices), (p.ours for p in pairs)), _rest(len(relative.matrices), (p.theirs for p in pairs))
    if has_readings(query):
        return read_as(query, relative, mine, others, judge)
    return [pair._replace(ours=pair.theirs, theirs=pair.ours) for pair in read_as(relative, query, others, mine, judge)]


def _settled(table: Matrices, other: Matrices, named: npt.NDArray[np.int64]) -> Bools:
    """Rows of ours whose namesake is near."""
    settled = np.zeros(len(table), np.bool_)
    at = np.flatnonzero(named >= 0)
    (x, x_length), (y, y_length) = table.sketches["probe"], other.sketches["probe"]
    cosines = np.abs(np.linalg.vecdot(x[at], y[named[at]]))
    settled[at] = cosines >= SETTLED_R * x_length[at] * y_length[named[at]]
    shapes = [(m.rows, m.columns, m.experts) for m in (table, other)]
    for ours, theirs in zip(*shapes, strict=True):
        settled[at] &= ours[at] == theirs[named[at]]
    return settled & (table.sd > 0)


def _rest(count: int, taken: Iterable[int]) -> list[int]:
    known = set(taken)
    return [row for row in range(count) if row not in known]


def at_odds(ours: Place, theirs: Place) -> bool:
    """Whether names would not have made this pair: a layer of another number they would, since layers are mapped by what they hold."""
    layered = (ours.layer == NO_LAYER) == (theirs.layer == NO_LAYER)
    roles = ours[2:] == theirs[2:] or grown_from(ours) == theirs[2:] or grown_from(theirs) == ours[2:]
    return not roles or ours.component != theirs.component or not layered


def _vectors(query: Fingerprint, relative: Fingerprint) -> list[Pair]:
    """Equal vectors, then near ones, then those that repeat one. Vectors show no descent, so their chance is not judged."""
    table, other = query.vectors, relative.vectors
    found = list(same_vectors(table, other))
    for repeats in (False, True):
        ours = [row for row in _rest(len(table), (pair.ours for pair in found)) if not table.constant[row]]
        theirs = range(len(other)) if repeats else _rest(len(other), (pair.theirs for pair in found))
        found += _near(query, relative, ours, [row for row in theirs if not other.constant[row]], repeats)
    return found


def _near(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int], repeats: bool) -> list[Pair]:
    table, other = query.vectors, relative.vectors
    mine, their = (grouped(side.length[list(rows)].tolist(), rows) for side, rows in ((table, ours), (other, theirs)))
    found = []
    for length in [length for length in mine if length in their]:
        a, b = mine[length], their[length]
        cosines = table.sketches[0][a] @ other.sketches[0][b].T
        best, back = cosines.argmax(axis=1).tolist(), cosines.argmax(axis=0).tolist()
        noise, tests = sketch_noise("vector", int(table.length[a[0]])), len(a) + len(b) - 1
        mutual = [
            (at, to)
            for at, to in enumerate(best)
            if (repeats or back[to] == at)
            and (cosines[at, to] >= SAME_NORM_R or two_sided_p(float(cosines[at, to]) / noise, tests) <= PAIR_P)
        ]
        found += [Pair(a[at], b[to], SKETCH, repeats) for at, to in mutual]
    return found
