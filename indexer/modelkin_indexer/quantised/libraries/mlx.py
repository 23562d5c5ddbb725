"""MLX (mlx.core.quantize): each row of `weight` is one little-endian bit stream in words of 32 bits, one scale a group of inputs.

affine          weight[o, i] = scales[o, g] * q[o, i] + biases[o, g], 1 to 8 bits
mxfp4, mxfp8    E2M1 or E4M3 times a power of two for 32 inputs
nvfp4           E2M1 times an E4M3 scale for 16 inputs, and `global_scale` / (448 * 6) for each matrix of a stack where there is one

Bits and group size stand in `quantization` of config.json, for all modules and for single ones by their full names; their product follows
from the shapes. Where nothing is stated, the widest number of bits is taken in which every group has its smallest and its largest code:
MLX lays the codes so that both ends of a group are met.
https://ml-explore.github.io/mlx/build/html/python/_autosummary/mlx.core.quantize.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.group_scales import GroupScales
from modelkin_indexer.quantised.packing import Bytes, Floats, by_groups, unpack_bits
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Undecoded
from modelkin_indexer.quantised.small_floats import Overall, SmallFloats

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
SIZES = (16, 32, 64, 128)  # numbers in a group that MLX has had
FLOATS = {(4, 32): "mxfp4", (8, 32): "mxfp8", (4, 16): "nvfp4"}
CODES = {"mxfp4": "E2M1", "mxfp8": "F8_E4M3", "nvfp4": "E2M1"}
SCALE_KINDS = {"mxfp4": "F8_E8M0", "mxfp8": "F8_E8M0", "nvfp4": "F8_E4M3"}
NVFP4_RANGE = 448 * 6  # largest E4M3 times largest E2M1: what a global scale is divided by
LOOKED_AT = 1 << 14  # groups whose codes are looked at where bits are not stated
# Least share of groups with both end codes: 1.0 of groups that MLX made, at most 0.1 in wider numbers (bell-shaped, heavy-tailed, low-rank
# and half empty matrices, 2 to 8 bits). Of one bit a number it is 0.6 to 1.0 in two bits.
BOTH_ENDS = 0.9
# Least difference of the middle codes' frequencies, relative to their sum, by which two bits are told from two numbers of one bit: 0.2 to
# 0.9 of two bits, under 0.06 of one.
MIDDLE = 0.1


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every module with a weight in words and scales."""
    sections = _sections(parts)
    for module, found in parts.modules.items():
        weight, scales = found.get("weight"), found.get("scales")
        if weight is None or weight.dtype != "U32":
            continue
        if scales is None:
            if _stated(sections, module):
                parts.need(f"{module}.scales", weight.name)
            continue
        yield _found(parts, module, _stated(sections, module), found)


def _found(parts: Parts, module: str, stated: Mapping[str, Any], found: Mapping[str, TensorInfo]) -> Found:
    weight, scales, biases = found["weight"], found["scales"], found.get("biases")
    if len(weight.shape) < 2 or scales.shape[:-1] != weight.shape[:-1] or weight.shape[-1] * 32 % scales.shape[-1]:
        raise parts.damaged(weight.name, f"has shape {list(weight.shape)}, which contradicts its scales of shape {list(scales.shape)}")
    if biases is not None and biases.shape != scales.shape:
        raise parts.damaged(biases.name, f"has shape {list(biases.shape)}, but its scales {list(scales.shape)}")
    uses = tuple(f"{module}.{last}" for last in ("weight", "scales", "biases", "global_scale") if last in found)
    product = weight.shape[-1] * 32 // scales.shape[-1]  # bits of a group
    choice = _floats(scales, product) if biases is None else _affine(parts, stated, weight, scales, product)
    if choice is None:
        return Undecoded(f"MLX, {_words(stated.get('bits'), stated.get('group_size'), product)}", uses)
    bits, size = choice
    shape = (*weight.shape[:-1], scales.shape[-1] * size)
    layer = _Layer(parts, module, bits, size, FLOATS[bits, size] if biases is None else "", shape)
    return Plain(f"{module}.weight", shape, layer.kind, uses, layer.rows)


def _words(bits: Any, size: Any, product: int) -> str:
    if type(bits) is int and type(size) is int:
        return f"{bits} bits, groups of {size}"
    return f"groups of {product} bits"


def _floats(scales: TensorInfo, product: int) -> tuple[int, int] | None:
    """Bits and group size of a floating mode: each has a product of its own."""
    return next(((bits, size) for bits, size in FLOATS if scales.dtype == "U8" and bits * size == product), None)


def _affine(parts: Parts, stated: Mapping[str, Any], weight: TensorInfo, scales: TensorInfo, product: int) -> tuple[int, int] | None:
    """Bits and group size: as stated where that agrees with the shapes, else as the codes tell, else None."""
    possible = [(bits, product // bits) for bits in BITS if product % bits == 0 and product // bits in SIZES]
    pair = stated.get("bits"), stated.get("group_size")
    if pair in possible:
        return next(choice for choice in possible if choice == pair)
    if len(possible) == 1:
        return possible[0]
    for bits, size in possible:
        codes = _codes(parts, weight, scales, bits, size)
        top = (1 << bits) - 1
        if ((codes.min(1) == 0) & (codes.max(1) >= top - (bits > 1))).mean() >= BOTH_ENDS:
            return (bits, size) if bits > 2 or _middle_differs(codes) else None
    return None


def _codes(parts: Parts, weight: TensorInfo, scales: TensorInfo, bits: int, size: int) -> Bytes:
    """The first codes, a group a row."""
    rows = min(prod(weight.shape[:-1]), max(1, LOOKED_AT // scales.shape[-1]))
    return unpack_bits(parts.raw_rows(weight.name, 0, rows), bits, scales.shape[-1] * size).reshape(-1, size)


def _middle_differs(codes: Bytes) -> bool:
    """Of two bits: whether codes 1 and 2 are not equally frequent, as those of two neighbours of one bit would be."""
    low, high = int((codes == 1).sum()), int((codes == 2).sum())
    return abs(low - high) >= MIDDLE * (low + high) > 0


def _sections(parts: Parts) -> list[Mapping[str, Any]]:
    """What config.json and the file's own metadata say of the quantisation."""
    said: list[Any] = [parts.source.config.get(key) for key in ("quantization", "quantization_config")]
    with suppress(ValueError, RecursionError):
        said.append(json.loads(parts.metadata.get("quantization", "null")))
    return [section for section in said if isinstance(section, Mapping)]


def _stated(sections: Sequence[Mapping[str, Any]], module: str) -> Mapping[str, Any]:
    """What is said of a module, {} where nothing is."""
    for section in sections:
        own = section.get(module)
        return {**section, **own} if isinstance(own, Mapping) else section
    return {}


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    bits: int
    size: int
    mode: str  # "" is affine
    shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        return f"MLX {self.mode}" if self.mode else f"MLX, {self.bits} bits, groups of {self.size}"

    @property
    def columns(self) -> int:
        return self.shape[-1]

    def rows(self, start: int, stop: int) -> Floats:
        groups = self.columns // self.size
        scales = GroupScales(self.parts, f"{self.module}.scales", groups, SCALE_KINDS.get(self.mode, ""))
        if self.mode:
            return self._floats(scales).rows(start, stop)
        stream = self.parts.raw_rows(f"{self.module}.weight", start, stop)
        numbers = unpack_bits(stream, self.bits, self.columns).astype(np.float32)
        by_groups(np.multiply, numbers, scales.rows(start, stop), self.size)
        biases = GroupScales(self.parts, f"{self.module}.biases", groups).rows(start, stop)
        by_groups(np.add, numbers, biases, self.size)
        return numbers

    def _floats(self, scales: GroupScales) -> SmallFloats:
        name = f"{self.module}.global_scale"
        overall = Overall(name, height=self.shape[-2], unit=1 / NVFP4_RANGE) if name in self.parts.tensors else None
        return SmallFloats(self.parts, f"{self.module}.weight", CODES[self.mode], self.columns, self.size, scales, overall)
