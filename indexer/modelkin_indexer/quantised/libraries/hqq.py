"""HQQ: W_q packed along its rows, a scale and a zero point for each row (axis 1) or column (axis 0) of the weight laid out in groups.

    weight, reshaped to [groups, size] (axis 1) or [size, groups] (axis 0), = (q - zero) * scale

Part p of a packed number holds the rows p * n to (p + 1) * n - 1 of n packed rows, the first part in the highest bits.
https://github.com/mobiusml/hqq/blob/master/hqq/core/bitpack.py
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Bytes, Floats
from modelkin_indexer.quantised.parts import Parts, Plain

PARTS = {"U8": {8: 1, 4: 2, 2: 4, 1: 8}, "I32": {3: 10}}  # numbers in a stored one, by its type and their bits
SIDES = ("scale", "zero", "shape", "nbits", "group_size", "axis", "packing", "unpack_view_dtype", "view_as_float", "quant_scale",
         "quant_zero", "compute_dtype", "offload_meta", "encoded_state_dict", "stores_quant_config", "channel_wise", "optimize",
         "round_zero")  # fmt: skip


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """Every module with a W_q."""
    for module, found in parts.modules.items():
        if "W_q" in found:
            layer = _layer(parts, module, found["W_q"])
            uses = (f"{module}.W_q", *(f"{module}.{side}" for side in SIDES if side in found))
            kind = f"hqq {layer.bits} bits, groups of {layer.size}"
            yield Plain(f"{module}.weight", (layer.outputs, layer.inputs), kind, uses, layer.rows)


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    bits: int
    outputs: int
    inputs: int
    axis: int
    size: int

    def rows(self, start: int, stop: int) -> Floats:
        width = self.size if self.axis else self.outputs * self.inputs // self.size
        first, last = start * self.inputs, stop * self.inputs
        top, bottom = first // width, -(-last // width)
        numbers = self._numbers(top, bottom, width).astype(np.float32)
        scales = self.parts.span(f"{self.module}.scale", *((top, bottom) if self.axis else (0, width)))
        zeros = self.parts.span(f"{self.module}.zero", *((top, bottom) if self.axis else (0, width)))
        numbers -= zeros[:, None] if self.axis else zeros
        numbers *= scales[:, None] if self.axis else scales
        return numbers.reshape(-1)[first - top * width : last - top * width].reshape(stop - start, self.inputs)

    def _numbers(self, top: int, bottom: int, width: int) -> Bytes:
        """Rows [top, bottom) of the unpacked numbers."""
        name = f"{self.module}.W_q"
        info = self.parts.tensors[name]
        step = info.elements // width
        count = PARTS[info.dtype][self.bits]
        found = np.empty((bottom - top, width), np.uint8)
        for part in range(top // step, -(-bottom // step)):
            low, high = max(top, part * step), min(bottom, (part + 1) * step)
            raw = self.parts.raw_span(name, (low - part * step) * width, (high - part * step) * width)
            stored = raw.view({"U8": np.uint8, "I32": np.uint32}[info.dtype]).reshape(high - low, width)
            shift = (count - 1 - part) * self.bits
            found[low - top : high - top] = stored >> stored.dtype.type(shift) & stored.dtype.type((1 << self.bits) - 1)
        return found


def _layer(parts: Parts, module: str, packed: TensorInfo) -> _Layer:
    name = packed.name
    numbers = {}
    for side in ("nbits", "group_size", "axis"):
        numbers[side] = int(_one(parts, f"{module}.{side}", name))
    shape = [int(n) for n in parts.integers(parts.need(f"{module}.shape", name).name)]
    bits, size, axis = numbers["nbits"], numbers["group_size"], numbers["axis"]
    scale, zero = parts.need(f"{module}.scale", name), parts.need(f"{module}.zero", name)
    if len(shape) != 2 or min(shape) <= 0 or size <= 0 or axis not in (0, 1) or prod(shape) % size:
        raise parts.damaged(name, f"states shape {shape}, groups of {size} along axis {axis}")
    count = PARTS.get(packed.dtype, {}).get(bits)
    if count is None:
        raise parts.damaged(name, f"states {bits} bits in numbers of {packed.dtype}")
    groups = prod(shape) // size
    height, width = (groups, size) if axis else (size, groups)
    if packed.elements != -(-height // count) * width or scale.elements != groups or zero.elements != groups:
        sizes = f"{packed.elements} packed numbers, {scale.elements} scales and {zero.elements} zero points"
        raise parts.damaged(name, f"has {sizes}, which contradict shape {shape} in groups of {size}")
    return _Layer(parts, module, bits, shape[0], shape[1], axis, size)


def _one(parts: Parts, name: str, by: str) -> float:
    parts.need(name, by)
    return parts.number(name)
