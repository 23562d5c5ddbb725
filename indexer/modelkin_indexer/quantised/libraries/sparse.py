"""compressed-tensors, sparse: the numbers that are not zero in `compressed`, a bit for each number of the weight in `bitmask`, its `shape`.

sparse-bitmask     `row_offsets`: where each row's numbers begin
sparse-24-bitmask  two numbers of each four, so that each row has half as many as columns

Bits of a row are little-endian, each row in bytes of its own. Numbers may be FP8 with a `weight_scale` of the dense weight. marlin-24 keeps
its codes in the order of a kernel and is not decoded.
https://github.com/vllm-project/compressed-tensors (compressors/sparse_compressors, up to version 0.14)
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Floats, over_columns
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Undecoded
from modelkin_indexer.quantised.scaled import scale_grid, scale_rows

MARLIN = ("weight_packed", "scale_packed", "meta")


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every weight with a bit mask; marlin-24's layers by name."""
    for module, found in parts.modules.items():
        if "compressed" in found and "bitmask" in found:
            yield _plain(parts, module, found["compressed"], found["bitmask"])
        elif all(last in found for last in MARLIN):
            yield Undecoded("compressed-tensors marlin-24", tuple(f"{module}.{last}" for last in MARLIN))


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    columns: int
    height: int

    def rows(self, start: int, stop: int) -> Floats:
        width = -(-self.columns // 8)
        packed = self.parts.raw_bytes(f"{self.module}.bitmask", start * width, stop * width).reshape(-1, width)
        mask = np.unpackbits(packed, axis=1, count=self.columns, bitorder="little").astype(bool)
        first, last = self._extent(start, stop)
        if int(mask.sum()) != last - first:
            raise self.parts.damaged(f"{self.module}.bitmask", f"marks {mask.sum():,} numbers of rows that hold {last - first:,}")
        found = np.zeros(mask.shape, np.float32)
        found[mask] = self.parts.span(f"{self.module}.compressed", first, last)
        return found

    def _extent(self, start: int, stop: int) -> tuple[int, int]:
        """Which of the stored numbers belong to rows [start, stop)."""
        total, name = self.parts.tensors[f"{self.module}.compressed"].elements, f"{self.module}.row_offsets"
        if name not in self.parts.tensors:
            return start * self.columns // 2, stop * self.columns // 2
        begins = np.append(self.parts.integers(name), total)
        first, last = int(begins[start]), int(begins[stop])
        if not 0 <= first <= last <= total:
            raise self.parts.damaged(name, f"has rows from {first:,} to {last:,} of {total:,} numbers")
        return first, last


def _plain(parts: Parts, module: str, numbers: TensorInfo, mask: TensorInfo) -> Plain:
    shape = tuple(int(size) for size in parts.integers(parts.need(f"{module}.shape", numbers.name).name))
    height, columns = prod(shape[:-1]), shape[-1] if shape else 0
    offsets = parts.tensors.get(f"{module}.row_offsets")
    stored = offsets.elements == height if offsets is not None else 2 * numbers.elements == height * columns
    if min(shape, default=0) <= 0 or mask.nbytes != height * -(-columns // 8) or not stored:
        raise parts.damaged(numbers.name, f"is said to be of shape {list(shape)}, which contradicts its {mask.nbytes:,} bytes of marks")
    layer = _Layer(parts, module, columns, height)
    plain = module.removesuffix(".weight") + ".weight"
    uses = tuple(name for last in ("compressed", "bitmask", "shape", "row_offsets") if (name := f"{module}.{last}") in parts.tensors)
    scale = f"{plain}_scale"
    if scale not in parts.tensors:
        return Plain(plain, shape, "sparse, marked by bits", uses, layer.rows)
    grid = scale_grid(parts, plain, shape, parts.tensors[scale])

    def rows(start: int, stop: int) -> Floats:
        return layer.rows(start, stop) * over_columns(scale_rows(parts, scale, grid, start, stop), grid.width, grid.columns)

    return Plain(plain, shape, f"sparse, marked by bits, {grid.words}", (*uses, scale), rows)
