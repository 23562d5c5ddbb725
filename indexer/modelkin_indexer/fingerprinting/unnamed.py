"""Models whose names tell nothing: which tables may hold tokens, and what the anchored channel is of each matrix then.

Which table is the embedding and which the head, and which side of a square matrix faces the residual stream, no shape tells. So every
reading is kept (`Matrices.readings`), and what the model is held against tells which one is right: all others look like strangers. Gains
are folded into none of them, since nothing tells which matrix reads which; a rotated model has none left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.anatomy.unknown_names import TOKEN_RATIO
from modelkin_indexer.fingerprinting.channels import token_frame
from modelkin_indexer.fingerprinting.grams import TINY, GramAccumulator, gram_vector
from modelkin_indexer.places import Anatomy, Piece
from modelkin_indexer.source import Source
from modelkin_indexer.spec import Key

Singles = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.int8]
UNTOLD = 0.5  # share of a model's bytes whose names tell nothing, from which readings are kept: where the registry seeks by contents too
STREAM_SHARE = 0.5  # share of the other matrices' numbers that have a side as wide as the token table: else it is no residual stream
MOST_TABLES = 2  # tables of one shape that may hold tokens: an embedding and a head
LARGEST_BYTE = 127  # of a signed byte, in which readings are kept: cosines of theirs are off by 0.0001 at most


def token_tables(source: Source, anatomy: Anatomy) -> list[Piece]:
    """The tables that may hold the tokens of a model whose names tell nothing: the tallest, as wide as the residual stream; else none."""
    unknown = {*anatomy.guessed, *anatomy.unplaced} - set(anatomy.constants)
    total = sum(info.nbytes for name, info in source.tensors.items() if name not in anatomy.constants)
    if sum(source.tensors[name].nbytes for name in unknown) <= UNTOLD * total:
        return []
    matrices = [piece for piece in anatomy.pieces if len(piece.views) == 1 and min(_shape(piece)) > 1]
    shapes = Counter(shape for piece in matrices if (shape := _shape(piece))[0] >= TOKEN_RATIO * shape[1])
    for rows, columns in sorted(shapes, reverse=True)[:1]:
        others = [piece for piece in matrices if _shape(piece) != (rows, columns)]
        facing = sum(piece.parameters for piece in others if columns in _shape(piece))
        if shapes[rows, columns] <= MOST_TABLES and others and facing >= STREAM_SHARE * sum(piece.parameters for piece in others):
            return [piece for piece in matrices if _shape(piece) == (rows, columns)]
    return []


def _shape(piece: Piece) -> tuple[int, int]:
    return piece.views[0].rows, piece.views[0].columns


def stacked_frames(anchors: Sequence[Singles], rows: int, key: Key) -> Singles:
    """The anchored frames of tables of so many rows, by their anchor rows, side by side: (width, DIRECTIONS x different tables)."""
    frames: list[Singles] = []
    for number, tokens in enumerate(anchors):
        if not any(np.array_equal(tokens, other) for other in anchors[:number]):
            frames.append(token_frame(tokens, sketch.anchor_tokens(key, rows), key))
    return np.ascontiguousarray(np.hstack(frames))


class Readings:
    """What the anchored channel is of one matrix: for each table with its columns facing the stream, then with its rows."""

    def __init__(self, piece: Piece, frames: Singles) -> None:
        self._frames = frames
        rows, columns = _shape(piece)
        able = len(piece.views) == 1 and min(rows, columns) > 1
        self._axes = [
            GramAccumulator(frames, side, columns) if able and size == len(frames) else None
            for side, size in (("in", columns), ("out", rows))
        ]
        self._rows = rows

    def add(self, start: int, block: Singles) -> None:
        """Take in rows [start, start + len(block))."""
        for axis in self._axes:
            if axis is not None:
                axis.add(start, block)
                if start + len(block) == self._rows:
                    axis.end_matrix()

    def vectors(self) -> Bytes:
        """(tables x 2 x GRAM_NUMBERS,) each scaled to bytes, zeros where no side is so wide."""
        n = spec.DIRECTIONS
        found = np.zeros((self._frames.shape[1] // n, 2, spec.GRAM_NUMBERS), np.int8)
        for table in range(len(found)):
            chosen = slice(table * n, (table + 1) * n)
            for side, axis in enumerate(self._axes):
                if axis is not None:
                    vector = gram_vector(axis.total[chosen, chosen], self._frames[:, chosen])
                    found[table, side] = np.rint(LARGEST_BYTE * vector / max(float(np.abs(vector).max()), TINY))
        return found.reshape(-1)
