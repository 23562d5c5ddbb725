"""The gram and anchored channels of one matrix, and how far it is from white, from one stream of its rows.

gram      R'W'WR for keyed directions R of the side that faces the residual stream; blind to the order of neurons, heads and experts
anchored  the same with R spanned by whitened token rows; blind to a rotation or permutation of the residual stream too

The gains of the norm that a matrix reads are folded into R (W diag(g) R), so a folded copy looks the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting.statistics import Moments, whiteness
from modelkin_indexer.gram_vectors import upper
from modelkin_indexer.places import Piece
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
TINY = float(np.finfo(np.float64).tiny)


class Frame(Struct, frozen=True):
    """What a piece is projected on: `gain` folds the norm it reads, `tokens` is the anchored frame; None where there is none.

    `readings` are the frames of all tables that may hold tokens, where no name tells which. `anchors` are the rows that span the anchored
    frame, in the order of `sketch.anchor_tokens`, where a piece is a table of tokens.
    """

    gain: Singles | None = None
    tokens: Singles | None = None
    readings: Singles | None = None
    anchors: Ints | None = None


class GramAccumulator:
    """Sums D'W'WD (or D'WW'D) over the row blocks of one matrix for stacked directions D; call `end_matrix` after each expert."""

    def __init__(self, directions: Singles, side: str, columns: int) -> None:
        self.directions, self.side = directions, side
        self.total = np.zeros((directions.shape[1], directions.shape[1]))
        self.outer = np.zeros((columns, directions.shape[1]), np.float32) if side == "out" else None

    def add(self, start: int, block: Singles) -> None:
        """Take in rows [start, start + len(block))."""
        if self.outer is None:
            projected = block @ self.directions
            self.total += projected.T @ projected
        else:
            self.outer += block.T @ self.directions[start : start + len(block)]

    def end_matrix(self) -> None:
        """Close one matrix of a stack: what follows counts rows from 0 again."""
        if self.outer is not None:
            self.total += self.outer.T @ self.outer
            self.outer[:] = 0


class MatrixGrams:
    """The Gram matrices of a piece. Where no side faces the stream, the seen rows' own, for `spectrum` alone."""

    def __init__(self, piece: Piece, key: Key, frame: Frame, moments: Moments) -> None:
        view = piece.views[0]
        self._piece, self._moments = piece, moments
        self._side = "out" if piece.residual == "out" else "in"
        directions = _directions(piece, key, frame)
        self._sums = GramAccumulator(directions, self._side, view.columns)

    def add(self, view: int, start: int, block: Singles) -> None:
        """Take in rows [start, start + len(block)) of a view."""
        if self._piece.residual == "none":
            block = self._moments.seen(block)
        self._sums.add(start, block)
        if start + len(block) == self._piece.views[view].rows:
            self._sums.end_matrix()

    def spectrum(self) -> float:
        """As in `Matrices`."""
        n, views = spec.DIRECTIONS, self._piece.views
        if self._side == "out":
            freedom = views[0].columns * len(views)
        else:
            freedom = self._moments.seen_rows if self._piece.residual == "none" else self._moments.rows
        return whiteness(self._sums.total[:n, :n], self._sums.directions[:, :n], freedom)

    def vectors(self) -> tuple[Floats, Floats]:
        """Of the gram and of the anchored channel; zeros where there is none."""
        nothing, n = np.zeros(spec.GRAM_NUMBERS), spec.DIRECTIONS
        if self._piece.residual == "none":
            return nothing, nothing
        plain = gram_vector(self._sums.total[:n, :n], self._sums.directions[:, :n])
        if self._sums.directions.shape[1] == n:
            return plain, nothing
        return plain, gram_vector(self._sums.total[n:, n:], self._sums.directions[:, n:])


def _directions(piece: Piece, key: Key, frame: Frame) -> Singles:
    """Keyed directions beside the token frame's, gains folded in: (size of the side, 16 or 32)."""
    view = piece.views[0]
    size = view.rows if piece.residual == "out" else view.columns
    directions = sketch.signs(key, "gram", size, spec.DIRECTIONS)
    if piece.residual == "none":
        return directions
    if frame.tokens is not None and len(frame.tokens) == size:
        directions = np.hstack([directions, frame.tokens])
    if frame.gain is not None and piece.residual == "in" and len(frame.gain) == size:
        directions = directions * frame.gain[:, None]
    return np.ascontiguousarray(directions)


def gram_vector(total: Floats, directions: Singles) -> Floats:
    """Upper triangle of a Gram matrix without its part along D'D (what an isotropic matrix would give), at unit length."""
    isotropic = upper(directions.astype(np.float64).T @ directions.astype(np.float64))
    vector = upper(total)
    vector = vector - isotropic * (vector @ isotropic) / max(float(isotropic @ isotropic), TINY)
    return sketch.unit(vector)[0]
