"""Square matrices that a library stores the other way round: no shape tells it, but what they are held against may."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.counterparts.matching import SETTLED_R
from modelkin_registry.counterparts.pairing import same_places

BODY = ("attention", "mlp")
STRANGE_R = 0.3  # mean |r| of matrices at the same places up to which they may be strangers': there it is 0.07, r having sd 0.09


def may_be_turned(ours: Fingerprint, theirs: Fingerprint) -> bool:
    """Whether both hold one token table, and of square matrices only some that show nothing of each other."""
    a, _ = _shared(ours.matrices, theirs.matrices, BODY)
    square = bool(len(a)) and bool((ours.matrices.rows[a] == ours.matrices.columns[a]).all())
    return square and agreement(ours, theirs) < STRANGE_R and _mean(ours.matrices, theirs.matrices, ("embedding",)) >= SETTLED_R


def agreement(ours: Fingerprint, theirs: Fingerprint) -> float:
    """Mean |r| of the matrices of layers at the same places; 0 without any."""
    return _mean(ours.matrices, theirs.matrices, BODY)


def is_nearer(turned: Fingerprint, plain: Fingerprint, theirs: Fingerprint) -> bool:
    """Whether a model whose matrices were read the other way round is the one that has something of the other."""
    return agreement(turned, theirs) >= SETTLED_R > agreement(plain, theirs)


def _shared(table: Matrices, other: Matrices, families: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of both at the same places, of these families and of one shape."""
    named = same_places(table.places, other.places)
    rows = [row for row, place in enumerate(table.places) if named[row] >= 0 and place.family in families]
    a = np.array(rows, np.int64)
    b = named[a]
    same = (table.rows[a] == other.rows[b]) & (table.columns[a] == other.columns[b]) & (table.experts[a] == other.experts[b])
    return a[same], b[same]


def _mean(table: Matrices, other: Matrices, families: tuple[str, ...]) -> float:
    a, b = _shared(table, other, families)
    (x, x_length), (y, y_length) = table.sketches["probe"], other.sketches["probe"]
    lengths = x_length[a] * y_length[b]
    cosines = np.abs(np.linalg.vecdot(x[a], y[b]))[lengths > 0] / lengths[lengths > 0]
    return float(cosines.mean()) if len(cosines) else 0.0
