"""NVIDIA's ModelOpt, whole numbers of four bits (W4A16_AWQ, W4A8_AWQ): byte [r, i] of `weight` holds rows 2r (low half) and 2r + 1.

    weight[o, i] = weight_scale[o, i // size of a group] * q[o, i] * pre_quant_scale[i],  q of -8 to 7

`pre_quant_scale` multiplies the inputs; where it was taken into the norm before the layer, there is none. What tells the form from others
of half bytes: there are twice as many rows of scales as of bytes. Its other forms are those of scaled.py and fp4.py.
https://github.com/NVIDIA/TensorRT-Model-Optimizer (modelopt/torch/export/quant_utils.py: pack_int4_in_uint8)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Floats, by_groups
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Undecoded

FLOATS = ("F32", "F16", "BF16")
SIDES = ("weight_scale", "weight_scale_2", "pre_quant_scale", "input_scale")


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every module whose scales have twice as many rows as its bytes."""
    for module, found in parts.modules.items():
        weight, scale = found.get("weight"), found.get("weight_scale")
        if weight is not None and scale is not None and _is_ours(weight, scale):
            layer = _Layer(parts, module, weight.shape[-1], scale.shape[-1], found.get("pre_quant_scale"))
            uses = (weight.name, *(found[last].name for last in SIDES if last in found))
            shape = (*weight.shape[:-2], 2 * weight.shape[-2], weight.shape[-1])
            if layer.before is not None and layer.before.elements != layer.columns:
                yield Undecoded("ModelOpt int4, inputs scaled in another way", uses)
                continue
            yield Plain(weight.name, shape, f"int4, groups of {layer.size} (ModelOpt)", uses, layer.rows)


def _is_ours(weight: TensorInfo, scale: TensorInfo) -> bool:
    if weight.dtype != "U8" or scale.dtype not in FLOATS or len(weight.shape) < 2 or not all(scale.shape):
        return False
    rows = (*weight.shape[:-2], 2 * weight.shape[-2])
    return scale.shape[:-1] == rows and weight.shape[-1] % scale.shape[-1] == 0


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    columns: int
    groups: int
    before: TensorInfo | None

    @property
    def size(self) -> int:
        """Columns under one scale."""
        return self.columns // self.groups

    def rows(self, start: int, stop: int) -> Floats:
        """Rows of the weight, counted over the matrices of a stack."""
        first, last = start // 2, -(-stop // 2)
        stored = self.parts.raw_bytes(f"{self.module}.weight", first * self.columns, last * self.columns).reshape(-1, 1, self.columns)
        halves = np.concatenate([stored & np.uint8(15), stored >> np.uint8(4)], axis=1).reshape(-1, self.columns)
        codes = halves[start - 2 * first : stop - 2 * first]
        numbers = ((codes.astype(np.int8) ^ np.int8(8)) - np.int8(8)).astype(np.float32)
        scales = self.parts.span(f"{self.module}.weight_scale", start * self.groups, stop * self.groups).reshape(-1, self.groups)
        by_groups(np.multiply, numbers, scales, self.size)
        if self.before is not None:
            numbers *= self.parts.span(self.before.name, 0, self.columns)
        return numbers
