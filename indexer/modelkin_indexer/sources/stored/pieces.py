"""Tensors that were cut into boxes, as several processes save them, seen whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Bytes, Decoder

Shape = tuple[int, ...]
MAX_AXES = 32
MOST_COMPARED = 4096  # pieces of a tensor of which each is held against each


class Piece(Struct, frozen=True):
    """A box of a tensor: where it begins in it, its shape, and what makes its numbers in C order, from the start of any of its rows."""

    offsets: Shape
    shape: Shape
    decoder: Decoder


class Joined(Struct, frozen=True):
    """Decodes a tensor of pieces, some rows at a time (see `Decoder`)."""

    dtype: str
    shape: Shape
    pieces: tuple[Piece, ...]

    @property
    def block_bytes(self) -> int:
        return prod(self.shape[1:]) * BITS[self.dtype] // 8

    def decode(self, start: int, out: Bytes) -> int:
        row, width, count = self.block_bytes, BITS[self.dtype] // 8, 0
        first, last = start // row, (start + out.nbytes) // row
        rows = out.reshape(last - first, *self.shape[1:], width)
        for piece in self.pieces:
            offsets, shape = piece.offsets or (0,), piece.shape or (1,)
            low, high = max(first, offsets[0]), min(last, offsets[0] + shape[0])
            if low >= high:
                continue
            own = prod(shape[1:]) * width
            part = np.empty((high - low) * own, np.uint8)
            count += piece.decoder.decode((low - offsets[0]) * own, part)
            inside = tuple(slice(at, at + n) for at, n in zip(offsets[1:], shape[1:], strict=True))
            rows[(slice(low - first, high - first), *inside)] = part.reshape(high - low, *shape[1:], width)
        return count


def make_up(pieces: Sequence[Piece], shape: Shape) -> bool:
    """Whether the pieces, none of which leaves the shape, hold each of its numbers once."""
    return sum(prod(piece.shape) for piece in pieces) == prod(shape) and not _overlap(pieces)


def _overlap(pieces: Sequence[Piece]) -> bool:
    """Whether two pieces share a number; those along one axis are compared with their neighbours only."""
    if len({piece.offsets for piece in pieces}) != len(pieces):
        return True
    pieces = sorted(pieces, key=lambda piece: piece.offsets)
    if len(pieces) > MOST_COMPARED or all(piece.offsets[1:] == pieces[0].offsets[1:] for piece in pieces):
        return any(one.offsets[0] + one.shape[0] > two.offsets[0] for one, two in pairwise(pieces))
    return any(_meet(one, two) for at, one in enumerate(pieces) for two in pieces[at + 1 :])


def _meet(one: Piece, two: Piece) -> bool:
    corners = zip(one.offsets, one.shape, two.offsets, two.shape, strict=True)
    return all(low < other + many and other < low + few for low, few, other, many in corners)
