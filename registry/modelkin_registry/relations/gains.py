"""What norm gains tell of a copy that level probe does not see, since it looks at numbers where they stand.

A residual stream whose channels are re-ordered or turned in sign keeps its gains: the same numbers, in another order. One that is rotated
has to have its gains multiplied into the matrices that read them first, and keeps ones. Neither is evidence of kinship: both tell that
such a copy was not examined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Fingerprint, Vectors
from modelkin_registry.counterparts.pairing import same_places
from modelkin_registry.evidence.initialisation import examine_start
from modelkin_registry.relations.lengths import CHANCE, LIKELY, binomial_tail

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
STEP = 2.0**-8  # largest relative error of a number stored in bfloat16 (2^-9), of both sides
MEAN_STEPS = 2.0  # of these steps, divided by the root of the length, are what storing moves a mean or a spread: three standard errors
# Spread of gains beside their size from which storing in bfloat16 keeps them apart: there strangers of one recipe have means so near by
# chance in one of ten, and spreads in one of seven.
VARIED = 4 * STEP
FEWEST_NUMBERS = 32  # of a gain vector; nine quantiles of fewer may be equal by chance


def same_gains(query: Fingerprint, relative: Fingerprint, searched: int) -> bool:
    """Whether more gain vectors hold the same numbers at the same places, in whatever order, than chance gives among so many models.

    Of level probe only: level full sees what this hints at.
    """
    if "probe" not in (query.about.level, relative.about.level):
        return False
    ours, theirs = _telling(query.vectors), _telling(relative.vectors)
    named = same_places(tuple(query.vectors.places[row] for row in ours), tuple(relative.vectors.places[row] for row in theirs))
    at = np.flatnonzero(named >= 0)
    if not len(at):
        return False
    equal = _equal(query.vectors, relative.vectors, ours[at], theirs[named[at]])
    same = np.eye(len(at), dtype=np.bool_)
    others = len(at) * (len(at) - 1)
    elsewhere = (int(equal[~same].sum()) + 1) / (others + 1)
    return binomial_tail(int(equal[same].sum()), len(at), max(CHANCE, min(1.0, elsewhere))) * searched <= LIKELY


def _telling(table: Vectors) -> Ints:
    """Rows of gains that differ enough for their numbers to be told from others'."""
    norms = np.array([place.family == "norm" for place in table.places], np.bool_)
    varied = table.sd >= VARIED * np.hypot(table.mean, table.sd)
    return np.flatnonzero(norms & varied & ~table.constant.astype(np.bool_) & (table.length >= FEWEST_NUMBERS))


def _equal(ours: Vectors, theirs: Vectors, a: Ints, b: Ints) -> Bools:
    """(a, b): which vectors have one length and, but for storing, one mean, spread and quantiles."""
    size = np.maximum(np.hypot(ours.mean[a], ours.sd[a])[:, None], np.hypot(theirs.mean[b], theirs.sd[b])[None, :]).astype(np.float64)
    near = MEAN_STEPS * STEP * size / np.sqrt(ours.length[a])[:, None]
    found = ours.length[a][:, None] == theirs.length[b][None, :]
    for x, y in ((ours.mean[a], theirs.mean[b]), (ours.sd[a], theirs.sd[b])):
        found &= np.abs(x[:, None].astype(np.float64) - y[None, :]) <= near
    x, y = ours.quantiles[a].astype(np.float64)[:, None], theirs.quantiles[b].astype(np.float64)[None, :]
    return np.asarray(found & (np.abs(x - y) <= STEP * np.maximum(np.abs(x), np.abs(y))).all(axis=2), np.bool_)


def may_be_turned(query: Fingerprint, relative: Fingerprint) -> bool:
    """Whether level probe would not see if one of the two were the other with its residual stream rotated: a side has gains of ones alone.

    A start that nobody has trained has them too, and is none.
    """
    return "probe" in (query.about.level, relative.about.level) and any(_gains_are_one(side) for side in (query, relative))


def _gains_are_one(model: Fingerprint) -> bool:
    """Of a trained model with attention: one without it has no stream that could be rotated."""
    known = model.matrices.worked_out
    if may_be_turned not in known:
        table = model.vectors
        gains = [bool(same) for same, place in zip(table.constant.tolist(), table.places, strict=True) if place.family == "norm"]
        attends = any(place.family == "attention" for place in model.matrices.places)
        known[may_be_turned] = bool(gains) and all(gains) and attends and not examine_start(model).passed
    return bool(known[may_be_turned])
