"""A source with quantised tensors seen as one with plain tensors: rows are decoded when they are asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable
from math import prod
from typing import TypeVar

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.parts import Plain, Undecoded
from modelkin_indexer.source import Source, Unread
from modelkin_indexer.sources.stored import values
from modelkin_indexer.sources.stored.decoded import Bytes, DecodedSource, Origin, Presented

SPARSE = 8  # a request of less than this part of a block is decoded alone, not with its block: the probe level reads a few rows
DTYPE, WIDTH = "F32", 4
SHARE_NAMED = 0.05  # share of the quantised numbers from which a kind of quantisation is named: a few odd layers say little of a model


class Counted:
    """A source whose reads are counted for each thread alone."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path, self.tensors, self.config = source.path, source.tensors, source.config
        self.name, self.files, self.notes, self.bytes_read = source.name, source.files, source.notes, 0
        self.metadata, self.unread, self.quantization = source.metadata, source.unread, ""
        self._mine = threading.local()

    @property
    def mine(self) -> int:
        """Bytes that this thread has read."""
        return getattr(self._mine, "count", 0)

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        self._mine.count = self.mine + stop - start
        return self.source.read(tensor, start, stop, out)

    def close(self) -> None:
        self.source.close()


class _Stored(Struct, frozen=True):
    """A tensor that is not quantised."""

    counted: Counted
    tensor: str
    block_bytes: int = 1

    def decode(self, start: int, out: Bytes) -> int:
        self.counted.read(self.tensor, start, start + out.nbytes, out)
        return out.nbytes


class _Rows(Struct, frozen=True):
    """A tensor whose rows a scheme decodes."""

    counted: Counted
    plain: Plain
    row_bytes: int
    block_bytes: int

    def decode(self, start: int, out: Bytes) -> int:
        before = self.counted.mine
        first, count = start // self.row_bytes, out.nbytes // self.row_bytes
        if self.plain.fill is not None:
            self.plain.fill(first, first + count, out.view(np.float32).reshape(count, -1))
        else:
            out[:] = np.ascontiguousarray(self.plain.rows(first, first + count), np.float32).reshape(-1).view(np.uint8)
        return self.counted.mine - before


class QuantisedSource(DecodedSource):
    """See `Source` for the attributes; closing it closes the source it was made from."""

    def _read(self, shown: Presented, start: int, wanted: Bytes) -> None:
        decoder = shown.decoder
        if not isinstance(decoder, _Rows) or wanted.nbytes * SPARSE > decoder.block_bytes:
            super()._read(shown, start, wanted)
            return
        first = start - start % decoder.row_bytes
        last = -(-(start + wanted.nbytes) // decoder.row_bytes) * decoder.row_bytes
        rows = np.empty(last - first, np.uint8)
        self._decode(shown, first, rows)
        wanted[:] = rows[start - first :][: wanted.nbytes]


Made = TypeVar("Made", bound=QuantisedSource)


def plain_source(
    kind: type[Made],
    counted: Counted,
    plains: Iterable[Plain],
    *,
    quantization: str = "",
    left_out: Collection[str] = (),
    undecoded: Collection[Undecoded] = (),
) -> Made:
    """The source with these tensors in the place of those that they are made of, and without those that are left out or not decoded."""
    found = {plain.name: plain for plain in plains}
    items: list[Plain | Undecoded] = [*found.values(), *undecoded]
    used = {name for item in items for name in item.uses}.union(left_out)
    source = counted.source
    shown = {name: Presented(info, _Stored(counted, name)) for name, info in source.tensors.items() if name not in used}
    shown |= {name: _presented(counted, plain) for name, plain in found.items()}
    unread = (*source.unread, *_unread(source, undecoded))
    origin = Origin(
        source.path, source.name, source.files, source.config, source.notes, quantization, source.bytes_read, source.metadata, unread
    )
    return kind(origin, shown, source.close)


def _presented(counted: Counted, plain: Plain) -> Presented:
    row_bytes = plain.shape[-1] * WIDTH
    info = TensorInfo(plain.name, DTYPE, plain.shape, prod(plain.shape) * WIDTH)
    return Presented(info, _Rows(counted, plain, row_bytes, max(1, values.BLOCK_BYTES // row_bytes) * row_bytes))


def _unread(source: Source, undecoded: Iterable[Undecoded]) -> Unread:
    """Stored bytes that are not decoded, by their kind, the most first."""
    sizes: Counter[str] = Counter()
    for item in undecoded:
        sizes[item.kind] += sum(source.tensors[name].nbytes for name in item.uses)
    return tuple(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])))


def kinds(plains: Iterable[Plain]) -> str:
    """How the tensors are stored, the kind with most numbers first."""
    sizes: Counter[str] = Counter()
    for plain in plains:
        sizes[plain.kind] += prod(plain.shape)
    named = [kind for kind, size in sizes.items() if size >= SHARE_NAMED * sizes.total()]
    return " and ".join(sorted(named, key=lambda kind: (-sizes[kind], kind)))
