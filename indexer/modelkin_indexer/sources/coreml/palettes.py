"""CoreML's palettes: each number of a weight is the place of a value in a small table, one for the tensor or for each group of it.

Places take 1, 2, 3, 4, 6 or 8 bits and stand one after the other, the lowest bit first.
https://apple.github.io/coremltools/docs-guides/source/opt-palettization-overview.html
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.sources.coreml.blobs import Blobs
from modelkin_indexer.sources.coreml.program import Operation, small
from modelkin_indexer.sources.stored.decoded import Bytes, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.messages import varints

KIND = "constexpr_lut_to_dense"
BITS = (1, 2, 3, 4, 6, 8)
TOGETHER = 8  # numbers whose places fill whole bytes, whatever their bits
MAX_AXES = 8
Floats = npt.NDArray[np.float32]
Shape = tuple[int, ...]


class Palettised(Struct, frozen=True):
    """A weight of this shape, stored as places of `bits` in `tables`, which have an axis for each of the shape and the values last."""

    name: str
    shape: Shape
    bits: int
    tables: Floats
    extent: Extent
    transposed: bool

    def presented(self, files: OpenFiles) -> Presented:
        """What readers see of it."""
        shape = self.shape[::-1] if self.transposed else self.shape
        info = TensorInfo(self.name, "F32", shape, 4 * prod(self.shape), self.transposed)
        return Presented(info, _Looked(self, Parts(self.name, (self.extent,), files)))


def palettised(operation: Operation, name: str, blobs: Blobs, transposed: bool) -> Palettised | None:
    """The weight that an operation makes; None of one with vectors for values, or of another form. Raises SourceError."""
    indices, lut = operation.values.get("indices"), operation.values.get("lut")
    if indices is None or lut is None or indices.blob is None:
        return None
    shape, extent, tables = indices.shape, blobs.extent(indices), blobs.numbers(lut, name)
    if "shape" in operation.values:  # the older form: bytes with one table
        kind, data = small(operation.values["shape"])
        shape = tuple(np.frombuffer(data, "<u4").tolist()) if kind == "bytes" and len(data) % 4 == 0 else tuple(varints(data))
        tables = tables.reshape(*(1,) * len(shape), -1)
    elif tables.ndim == len(shape) + 2 and tables.shape[-1] == 1:
        tables = tables[..., 0]
    bits = int(tables.shape[-1] - 1).bit_length() if tables.ndim else 0
    groups = tables.shape[:-1]
    fits = len(groups) == len(shape) <= MAX_AXES and all(0 < few <= n and n % few == 0 for few, n in zip(groups, shape, strict=True))
    if not fits or bits not in BITS or 1 << bits != tables.shape[-1] or not np.isfinite(tables).all():
        return None
    if extent.length < -(-prod(shape) * bits // 8):
        blobs.fail(f"has {extent.length:,} bytes for {name[:200]!r} of shape {list(shape)} with {bits} bits")
    return Palettised(name, shape, bits, tables, extent, transposed and len(shape) == 2)


class _Looked(Struct, frozen=True):
    """Decodes places to the values there (see `Decoder`)."""

    weight: Palettised
    stored: Parts
    block_bytes: int = 4 * TOGETHER

    def decode(self, start: int, out: Bytes) -> int:
        """See `Decoder`."""
        weight, first, count = self.weight, start // 4, out.nbytes // 4
        raw = np.empty(-(-count * weight.bits // 8), np.uint8)
        read = self.stored.decode(first * weight.bits // 8, raw)
        bits = np.unpackbits(raw, bitorder="little")[: count * weight.bits].reshape(count, weight.bits)
        places = bits @ (1 << np.arange(weight.bits, dtype=np.uint16)).astype(np.uint16)
        tables = weight.tables.reshape(-1, weight.tables.shape[-1])
        table: Any = 0
        if len(tables) > 1:
            at = np.unravel_index(np.arange(first, first + count), weight.shape)
            groups = weight.tables.shape[:-1]
            table = np.ravel_multi_index(tuple(axis // (n // few) for axis, n, few in zip(at, weight.shape, groups, strict=True)), groups)
        out.view(np.float32)[:] = tables[table, places]
        return read
