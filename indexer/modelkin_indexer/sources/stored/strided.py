"""Tensors that are laid over their storage in another order than C's: transposed, sliced, in Fortran order."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from modelkin_indexer.places import View
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Bytes, DecodedSource, Origin, Presented
from modelkin_indexer.sources.stored.values import SPAN_BYTES, read_stored


class Strided(Struct, frozen=True):
    """Decodes a tensor to C order, some rows at a time. `offset` and `strides` count numbers of `storage`, a vector."""

    storage: Presented
    path: Path
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def _width(self) -> int:
        return BITS[self.storage.info.dtype] // 8

    @property
    def _view(self) -> View:
        """The tensor as rows; those of a vector are single numbers."""
        name, vector = self.storage.info.name, len(self.shape) == 1
        return View(name, self.offset, (*self.shape, 1) if vector else self.shape, (*self.strides, 1) if vector else self.strides)

    @property
    def block_bytes(self) -> int:
        row = self._view.columns * self._width
        return max(1, SPAN_BYTES // row) * row

    def decode(self, start: int, out: Bytes) -> int:
        view = self._view
        row = view.columns * self._width
        source = DecodedSource(Origin(self.path, "", (), {}), {view.tensor: self.storage}, lambda: None)
        read_stored(source, view, start // row, (start + out.nbytes) // row, out)
        return source.bytes_read
