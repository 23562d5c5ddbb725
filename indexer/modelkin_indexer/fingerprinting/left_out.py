"""What of a model is not fingerprinted: tables that anybody computes, and weights that are no numbers; the latter count as unread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from modelkin_indexer.adapters.presented import adapter_of
from modelkin_indexer.anatomy.constants.borne_out import FEW, beyond, longest_axis
from modelkin_indexer.anatomy.constants.buffers import is_vector
from modelkin_indexer.anatomy.constants.fixed_tables import CONSTANT, integer_reason, order_reason, vector_reason
from modelkin_indexer.anatomy.constants.table_reading import fixed_reason, is_trained_bank, whole_tensor
from modelkin_indexer.errors import UnusableValues
from modelkin_indexer.fingerprinting.measure import NO_DIGEST, MatrixMeasure, VectorMeasure
from modelkin_indexer.places import Anatomy
from modelkin_indexer.results.fingerprint import NOT_FINITE
from modelkin_indexer.source import BITS, Source
from modelkin_indexer.sources.stored.usable import Unusable

UNTOUCHED = ("position", "other", "embedding")  # families whose constant matrices are left out: a copy with others cleared is none
INDEX_DTYPES = ("I64", "I32", "I16", "U8", "BOOL")
LARGEST_INDEX = 1 << 24  # numbers of an integer table that are read to tell what it is: a causal mask of 4,096 positions
MOSTLY = 0.5  # share of numbers that are none from which a tensor is left out
SOUND = "Such weights cannot be compared; ask the publisher for a sound file."

UNINFORMATIVE = ("position", "other")  # families that support no relation as it is


class LeftOut:
    """Sorts measured tensors. `constants`: tensors that are never evidence, with the reason; `unread`: what else is left out, with bytes.

    `unusable` are the tensors that are left out whole, `oversized` vectors as large as matrices: their layout is unknown. `crowded` are
    vectors that are more of their length than such matrices have: numbers of anything could be cut into vectors.
    """

    def __init__(self, source: Source, anatomy: Anatomy, strict: bool) -> None:
        """`strict`: numbers that are none are refused."""
        self._source, self._anatomy, self._strict = source, anatomy, strict
        self.constants = dict(anatomy.constants) | index_tables(source, anatomy)
        self.unread: list[tuple[str, int]] = []
        self.unusable: set[str] = set()
        self.lost = 0  # bytes of numbers that are none, in tensors that are kept
        self.oversized: set[str] = set()
        self.crowded: set[str] = set()

    def matrices(self, measured: Sequence[MatrixMeasure]) -> list[MatrixMeasure]:
        """Those that are kept, by place: no fixed tables, and no head that is tied to the embedding."""
        kept: list[MatrixMeasure] = []
        unsure = {*self._anatomy.guessed, *self._anatomy.unplaced}
        tokens = {m.piece.place.component: m for m in measured if (m.piece.place.family, m.piece.place.role) == ("embedding", "token")}
        for m in measured:
            tensors = [view.tensor for view in m.piece.views]
            reason = fixed_reason(self._source, m.piece, m.sampled.rows, m.sampled.numbers, m.held)
            surely_weights = m.piece.place.family not in UNTOUCHED and tensors[0] not in unsure
            if surely_weights and (reason == CONSTANT or (m.unusable is not None and m.unusable.share > MOSTLY)):
                reason = ""
            if m.piece.place.family == "head" and same_values(m, tokens.get(m.piece.place.component)):
                reason = reason or "the head is the embedding (tied)"
            if reason:
                self.constants.update(dict.fromkeys(tensors, reason))
            elif self._is_usable(m.unusable, tensors):
                kept.append(self._by_origin(m))
        return sorted(kept, key=lambda m: m.piece.place)

    def _by_origin(self, m: MatrixMeasure) -> MatrixMeasure:
        """A bank of filters that a formula started in a place of family `other`: it supports no relation, as anybody may start from it."""
        if m.piece.place.family in UNINFORMATIVE or not is_trained_bank(self._source, m.piece, m.sampled.rows):
            return m
        return replace(m, piece=replace(m.piece, place=m.piece.place._replace(family="other")))

    def vectors(self, measured: Sequence[VectorMeasure]) -> list[VectorMeasure]:
        """Those that are kept: no fixed tables."""
        tensors = {piece.place: [view.tensor for view in piece.views] for piece in self._anatomy.pieces}
        longest = longest_axis(self._source.tensors)
        kept = []
        for v in measured:
            reason = vector_reason(v.values) if v.unusable is None else ""
            if reason:
                self.constants.update(dict.fromkeys(tensors[v.place], reason))
            elif self._is_usable(v.unusable, tensors[v.place]):
                kept.append(v)
                self._note_size(v, tensors[v.place], longest)
        placed = dict.fromkeys(name for v in kept for name in tensors[v.place] if is_vector(self._source.tensors[name]))
        unsure = {*self._anatomy.guessed, *self._anatomy.unplaced}
        ordered = sorted(placed.keys() - self.oversized, key=lambda name: (name in unsure, name))
        if adapter_of(self._source) is None:
            self.crowded.update(beyond(ordered, self._source.tensors))
        return kept

    def _note_size(self, v: VectorMeasure, tensors: list[str], longest: int) -> None:
        """A vector longer than any row or column of a matrix is no gain or bias."""
        if v.values.size > longest and not any(len(self._source.tensors[name].shape) > 1 for name in tensors):
            self.oversized.update(tensors)

    def _is_usable(self, unusable: Unusable | None, tensors: list[str]) -> bool:
        """Whether a tensor is kept; what of it is no number is told, or refused. Raises UnusableValues."""
        if unusable is None or not unusable.numbers:
            return True
        if self._strict:
            problem = f"contains NaN, infinite or absurdly large values ({unusable.where})"
            raise UnusableValues(problem, path=self._source.path, tensor=tensors[0], remedy=SOUND)
        info = self._source.tensors[tensors[0]]
        if unusable.share > MOSTLY:
            self.unusable.update(tensors)
            size = sum(self._source.tensors[name].nbytes for name in set(tensors))
            self.unread.append((f"{NOT_FINITE}: most of {tensors[0]}", size))
            return False
        what = f"{NOT_FINITE}: {unusable.where} of {tensors[0]}"
        size = max(1, unusable.numbers * BITS[info.dtype] // 8)
        self.unread.append((what, size))
        self.lost += size
        return True


def index_tables(source: Source, anatomy: Anatomy) -> dict[str, str]:
    """Whole numbers that are counted up or a mask, told by all their values: what else is stored as such may be packed weights."""
    found: dict[str, str] = {}
    for name in anatomy.unplaced:
        info = source.tensors[name]
        if info.dtype in INDEX_DTYPES and 0 < info.elements <= LARGEST_INDEX:
            values = whole_tensor(source, info)
            reason = integer_reason(values) or (order_reason(values) if info.elements <= FEW else "")
            found |= {name: reason} if reason else {}
    return found


def same_values(head: MatrixMeasure, tokens: MatrixMeasure | None) -> bool:
    """Whether a head holds the numbers of the token table."""
    if tokens is None or head.piece.parameters != tokens.piece.parameters:
        return False
    if head.digest != NO_DIGEST:
        return head.digest == tokens.digest
    return bool(np.array_equal(head.sampled.probe, tokens.sampled.probe) and head.sampled.scale == tokens.sampled.scale)
