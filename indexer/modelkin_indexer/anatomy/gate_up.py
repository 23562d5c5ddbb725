"""Stacked experts whose gate and up take turns, told by what they hold where neither names nor config say so.

Row i of gate and row i of up belong to one neuron, and training lets their lengths grow together: they correlate at 0.7 to 0.8 in trained
mixtures and 0 between rows that do not belong together (lineagebench, model G; also 0 before training). Of two readings of the same
tensor, one after the other or taking turns, the one with the stronger pairs is right; without a clear margin, names decide.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.places import Anatomy, Piece, View
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

PAIRS = 256  # neurons looked at of an expert
COLUMNS = 64  # numbers of each row: enough for its length to a tenth
EXPERTS = 4  # of a layer
LAYERS = 2  # the first: at 0.7, eight experts' pairs lie 39 standard errors from chance; of a Hub model they have to be fetched
LEAST_NEURONS = 8  # of an expert: with fewer there are too few pairs to look at
MARGIN = 8.0  # standard errors between both readings, whose difference has sd 1.4 where there are no pairs
LEAST_CORRELATION = 0.3  # of the better reading ...
LARGEST_OTHER = 0.5  # ... and the most of it that the other may have: neurons sorted by length resemble their neighbours in both


def better(source: Source, usual: Anatomy, other: Anatomy) -> Anatomy:
    """`usual`, or the other reading of the same tensors where their values clearly speak for it."""
    a, b = _pairing(source, usual), _pairing(source, other)
    if a is None or b is None:
        return usual
    clear = b[1] - a[1] >= MARGIN and b[0] >= LEAST_CORRELATION and a[0] <= LARGEST_OTHER * b[0]
    return other if clear else usual


def stacked(anatomy: Anatomy) -> list[tuple[Piece, Piece]]:
    """Gate and up of the layers in which one tensor holds both for all experts."""
    gates = {p.place: p for p in anatomy.pieces if p.experts and p.place.role == "gate" and p.views[0].rows >= LEAST_NEURONS}
    ups = ((p, gates.get(p.place._replace(role="gate"))) for p in anatomy.pieces if p.experts and p.place.role == "up")
    return [(gate, up) for up, gate in ups if gate is not None and gate.views[0].tensor == up.views[0].tensor == gate.views[-1].tensor]


def _pairing(source: Source, anatomy: Anatomy) -> tuple[float, float] | None:
    """Mean correlation of the lengths of paired rows, and how many standard errors it is from 0; None if there is nothing to measure."""
    scores = np.array([score for score in _scores(source, anatomy) if np.isfinite(score).all()])
    if not len(scores):
        return None
    return float(np.tanh(scores[:, 0].mean())), float(scores[:, 1].sum() / np.sqrt(len(scores)))


def _scores(source: Source, anatomy: Anatomy) -> Iterator[tuple[float, float]]:
    """Fisher's z of each expert's correlation, and the same in standard errors."""
    for gate, up in stacked(anatomy)[:LAYERS]:
        for one, two in list(zip(gate.views, up.views, strict=True))[:EXPERTS]:
            a, b = _lengths(source, one), _lengths(source, two)
            with np.errstate(all="ignore"):
                z = float(np.arctanh(np.clip(np.corrcoef(a, b)[0, 1], -0.999, 0.999)))
            yield z, z * float(np.sqrt(len(a) - 3))


def _lengths(source: Source, view: View) -> npt.NDArray[np.float64]:
    rows, columns = min(view.rows, PAIRS), min(view.columns, COLUMNS)
    some = replace(view, shape=(rows, columns))
    lengths: npt.NDArray[np.float64] = np.linalg.norm(values.read_rows(source, some, 0, rows).astype(np.float64), axis=1)
    return lengths
