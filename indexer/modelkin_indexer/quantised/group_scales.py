"""Scales of groups of columns as they are stored: row by row, or in the tiles that tensor cores read.

In tiles (cuBLAS: "block scaling factors layout"; "swizzled" or "blocked" elsewhere) a matrix of scales is padded to multiples of 128 rows
and 4 columns and cut into tiles of that size, which follow each other row of tiles by row of tiles. In a tile the scale of row r and
column c is number 16 * (r mod 32) + 4 * (r div 32) + c.
https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout
"""

from __future__ import annotations

from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Bytes, Floats, exponents
from modelkin_indexer.quantised.parts import Parts
from modelkin_indexer.sources.stored import values

EXPONENTS = ("U8", "F8_E8M0")
TILE_ROWS, TILE_COLUMNS, LANES = 128, 4, 32
TILE = TILE_ROWS * TILE_COLUMNS


class GroupScales(Struct, frozen=True):
    """Scales of a stack of matrices of `height` rows, `groups` scales a row. `kind` is how a number is stored ("" : as its dtype says)."""

    parts: Parts
    name: str
    groups: int
    kind: str = ""
    tiled: bool = False
    height: int = 0

    def rows(self, start: int, stop: int) -> Floats:
        """Scales of rows [start, stop) of the stack: [stop - start, groups]."""
        if not self.tiled:
            return self._decoded(self.parts.raw_span(self.name, start * self.groups, stop * self.groups)).reshape(-1, self.groups)
        pieces = []
        while start < stop:
            matrix, first = divmod(start, self.height)
            last = min(self.height, first + stop - start)
            pieces.append(self._untiled(matrix, first, last))
            start += last - first
        return np.concatenate(pieces)

    def _untiled(self, matrix: int, first: int, last: int) -> Floats:
        """Scales of rows [first, last) of one matrix."""
        wide, tall = -(-self.groups // TILE_COLUMNS), -(-self.height // TILE_ROWS)
        top, bottom = first // TILE_ROWS, -(-last // TILE_ROWS)
        at = matrix * tall * wide * TILE
        stored = self._decoded(self.parts.raw_span(self.name, at + top * wide * TILE, at + bottom * wide * TILE))
        tiles = stored.reshape(bottom - top, wide, LANES, TILE_ROWS // LANES, TILE_COLUMNS)
        rows = tiles.transpose(0, 3, 2, 1, 4).reshape((bottom - top) * TILE_ROWS, wide * TILE_COLUMNS)
        return np.ascontiguousarray(rows[first - top * TILE_ROWS : last - top * TILE_ROWS, : self.groups])

    def _decoded(self, raw: Bytes) -> Floats:
        dtype = self.parts.tensors[self.name].dtype
        kind = self.kind or ("F8_E8M0" if dtype in EXPONENTS else dtype)
        return exponents(raw) if kind == "F8_E8M0" else values.decode(kind, raw)


def tiled_size(rows: int, groups: int) -> int:
    """Numbers that the scales of a matrix take in tiles."""
    return -(-rows // TILE_ROWS) * -(-groups // TILE_COLUMNS) * TILE


def is_tiled(scale: TensorInfo, shape: tuple[int, ...], groups: int) -> bool:
    """Whether only tiles explain the number of scales of a weight of this shape."""
    stack, rows = prod(shape[:-2]), shape[-2]
    return scale.elements == stack * tiled_size(rows, groups) != stack * rows * groups
