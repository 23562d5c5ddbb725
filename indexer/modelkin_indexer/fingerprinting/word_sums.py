"""Digests of a matrix that know no order: what its values are, whatever the order of its rows and columns, and whichever way it is turned.

The bits of each value as float32 are a word. The words of a row are added modulo 2^32, the sum is mixed to 64 bits, and these are added
over the rows modulo 2^64; the same over columns. So the order of rows and of columns does not matter, a transposed matrix has the two
digests exchanged, those of parts add up to that of the whole, and rows and columns of zeros add nothing (0.0 has no bit set, and mixing
leaves 0). Strangers collide once in 2^64 where there are a few rows. A forger makes collisions at will, since sums of words are linear: two
values of a row may be changed against each other. So equal digests are a place to look at, and sketches have to agree there.

The compiled core of `values` adds up rows and columns in one pass over the numbers and decodes BF16 in the same; without it numpy gives
the same sums in two more passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.sources.stored.values import CORE, decoded_in

Bytes = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
Words = npt.NDArray[Any]
Sums = npt.NDArray[np.uint64]
# Rounds of a 64-bit mixer: every bit of the sum decides on every bit of the result (Stafford 2011, the constants of his 13th variant).
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT = 31


class Digests(Struct, frozen=True):
    """`numbers` (2,): over rows and over columns; `blocks` (EIGHTHS + PREFIXES,): over parts of the rows; `rows`: each row's own."""

    numbers: Sums
    blocks: Sums
    rows: Sums


class WordSums:
    """Takes in a matrix by blocks of whole rows, in order."""

    def __init__(self, columns: int) -> None:
        self._rows: list[Words] = []
        self._columns = np.zeros(columns, np.uint32)
        self._upper = np.zeros(columns, np.uint16)  # of words whose lower half is 0

    def read(self, dtype: str, raw: Bytes, room: Singles) -> Singles:
        """The stored bytes of the next rows as values (rows, columns), taken in: in `room`, or where they are if they are stored so.

        The upper half of a single is a BF16 value and the lower half then 0: the stored words are half as many bytes and as quick to add.
        """
        if dtype == "BF16" and CORE is not None:
            rows = np.empty(len(room), np.uint16)
            CORE.add(raw, room, rows, self._upper)
            self._rows.append(rows)
            return room
        block = decoded_in(dtype, raw, room)
        if dtype == "BF16":
            words = raw.view(np.uint16).reshape(block.shape)
            self._rows.append(np.add.reduce(words, 1, np.uint16))
            self._upper += np.add.reduce(words, 0, np.uint16)
        else:
            self.add(block)
        return block

    def add(self, block: Singles) -> None:
        """Take in the values of the next rows (rows, columns), contiguous."""
        words = block.view(np.uint32)
        if CORE is not None:
            rows = np.empty(len(block), np.uint32)
            CORE.add(words, None, rows, self._columns)
        else:
            rows = np.add.reduce(words, 1, np.uint32)
            self._columns += np.add.reduce(words, 0, np.uint32)
        self._rows.append(rows)

    def digests(self) -> Digests:
        """Of all that was taken in."""
        rows = mixed(np.concatenate([_whole(words) for words in self._rows]).astype(np.uint64))
        columns = mixed((self._columns + _whole(self._upper)).astype(np.uint64))
        return Digests(np.array([rows.sum(dtype=np.uint64), columns.sum(dtype=np.uint64)], np.uint64), _parts(rows), rows)


def _whole(sums: Words) -> Words:
    """Sums of words as they are modulo 2^32, where only their upper halves were added."""
    return sums if sums.dtype == np.uint32 else sums.astype(np.uint32) << np.uint32(16)


def mixed(words: Sums) -> Sums:
    """Each word mixed; 0 stays 0."""
    for shift, factor in MIXING:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(LAST_SHIFT))


def _parts(rows: Sums) -> Sums:
    """Sums over the eighths of the rows and over the first 2^k and fewer rows."""
    before = np.concatenate([np.zeros(1, np.uint64), np.cumsum(rows, dtype=np.uint64)])
    bounds = np.arange(spec.EIGHTHS + 1) * len(rows) // spec.EIGHTHS
    largest = len(rows).bit_length() - 1
    prefixes = [before[1 << (largest - less)] if less <= largest else np.uint64(0) for less in range(spec.PREFIXES)]
    return np.concatenate([np.diff(before[bounds]), np.array(prefixes, np.uint64)])
