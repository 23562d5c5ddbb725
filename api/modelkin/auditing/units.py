"""Units that two matrices of a layer share, and how large they are on either side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.places import Piece, Place
from modelkin_indexer.source import Source

Floats = npt.NDArray[np.float64]
FEWEST_UNITS = 32  # units from which a correlation of -0.6 is no chance (p below 0.001)
PAIRS = {
    "q and k": (("attention", "q"), ("attention", "k")),
    "v and o": (("attention", "v"), ("attention", "o")),
    "up and down": (("mlp", "up"), ("mlp", "down")),
}
WRITES = ("o", "down")  # roles whose columns are units


class Pair(Struct, frozen=True):
    """Two matrices of one layer, and the norms of the units that they share; `r` is None where they cannot be told apart."""

    words: str
    first: Place
    second: Place
    r: float | None
    ratio: float


def pairs(source: Source, pieces: Mapping[Place, Piece]) -> Iterator[Pair]:
    """The pairs of each layer whose matrices are there, not zero, and whose units belong together. `pieces` are all matrices."""
    for place, piece in pieces.items():
        for words, (first, second) in PAIRS.items():
            other = pieces.get(place._replace(family=second[0], role=second[1])) if (place.family, place.role) == first else None
            if other is not None:
                one, two = _unit_norms(source, piece), _unit_norms(source, other)
                one, two = _in_groups(source, piece, one, two)
                if one.any() and two.any():
                    yield Pair(words, place, other.place, _log_correlation(one, two), _ratio(one, two))


def _unit_norms(source: Source, piece: Piece) -> Floats:
    """Root mean squares of the rows of a matrix, or of its columns where these are the units."""
    from modelkin_indexer.sources.stored import values  # a written fingerprint does without the indexer's imports

    rows, columns = [], np.zeros(piece.views[0].columns)
    for view in piece.views:
        for start, stop in values.row_blocks(view):
            block = values.read_rows(source, view, start, stop)
            squares = np.where(np.isfinite(block), block, 0).astype(np.float64) ** 2
            rows.append(squares.mean(axis=1))
            columns += squares.sum(axis=0)
    return np.sqrt(columns / sum(map(len, rows)) if piece.place.role in WRITES else np.concatenate(rows))


def _in_groups(source: Source, piece: Piece, one: Floats, two: Floats) -> tuple[Floats, Floats]:
    """The units of both, as many: where heads of q (columns of o) share one of k (v), theirs are put together."""
    from modelkin_indexer.anatomy.parts import config_of

    size = layouts.config_shape(config_of(source, piece.views[0].tensor), piece.place.component, None).head_size
    few, many = sorted((len(one), len(two)))
    if few == many or not size or few % size or many % few:
        return one, two
    many_norms = (one if len(one) == many else two).reshape(few // size, many // few, size)
    grouped = np.sqrt((many_norms**2).mean(axis=1)).ravel()
    return (grouped, two) if len(one) == many else (one, grouped)


def _log_correlation(one: Floats, two: Floats) -> float | None:
    if len(one) != len(two):
        return None
    both = (one > 0) & (two > 0)
    if both.sum() < FEWEST_UNITS:
        return None
    logs = np.log(one[both]), np.log(two[both])
    return float(np.corrcoef(*logs)[0, 1]) if min(map(np.ptp, logs)) > 0 else None


def _ratio(one: Floats, two: Floats) -> float:
    """Logarithm of the ratio of the median units, which few large ones do not move."""
    return math.log(np.median(one[one > 0]) / np.median(two[two > 0]))
