"""One array of Flax's modules."""

from __future__ import annotations

from msgspec import Struct

from modelkin_indexer.sources.stored.decoded import Decoder


class Array(Struct, frozen=True):
    """An array of some modules: `decoder` makes its numbers in C order, of `nbytes` stored bytes."""

    path: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    decoder: Decoder
