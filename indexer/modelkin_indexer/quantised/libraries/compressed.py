"""compressed-tensors, pack-quantized: weight_packed along the inputs in words of 32 bits, numbers of 1 to 8 bits stored with an offset.

    weight[o, i] = weight_scale[o, g] * (q[o, i] - zero point),  q = stored - 2^(bits - 1),  g = weight_g_idx[i], or i // group size

Since version 0.17 numbers that do not divide 32 bits run on into the next word; before, the rest of each word was left empty.
https://github.com/vllm-project/compressed-tensors/blob/main/src/compressed_tensors/compressors/pack_quantized/helpers.py
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo, View
from modelkin_indexer.quantised.packing import Bytes, Floats, by_groups, unpack_bits, unpack_words
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.sources.stored.values import read_stored

BITS = (4, 8, 2, 3, 5, 6, 7, 1)  # the common ones first: where a width fits several, the config decides, then this order


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """Every module with a weight packed in words."""
    for module, found in parts.modules.items():
        packed = found.get("weight_packed")
        if packed is not None and packed.dtype == "I32":
            layer = _layer(parts, module, packed)
            yield Plain(f"{module}.weight", (layer.outputs, layer.inputs), layer.kind, layer.uses, layer.rows)


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    bits: int
    dense: bool
    outputs: int
    inputs: int
    groups: int
    zero: bool

    @property
    def kind(self) -> str:
        size = -(-self.inputs // self.groups)
        return f"int{self.bits}, " + ("one scale a row" if self.groups == 1 else f"groups of {size}")

    @property
    def uses(self) -> tuple[str, ...]:
        lasts = ("packed", "scale", "shape", "zero_point", "g_idx")
        names = (f"{self.module}.weight_{last}" for last in lasts)
        return tuple(name for name in names if name in self.parts.tensors)

    def rows(self, start: int, stop: int) -> Floats:
        stream = self.parts.raw_rows(f"{self.module}.weight_packed", start, stop)
        numbers = self._numbers(stream, self.inputs)
        scales = self._scales(start, stop)
        zeros = self._zeros(start, stop) if self.zero else None
        groups = self._group_of_input()
        if groups is not None:
            scales, zeros = scales[:, groups], zeros[:, groups] if zeros is not None else None
        size = -(-self.inputs // self.groups) if groups is None else 1
        if zeros is not None:
            by_groups(np.subtract, numbers, zeros, size)
        by_groups(np.multiply, numbers, scales, size)
        return numbers

    def _numbers(self, stream: Bytes, count: int) -> Floats:
        unpacked = (unpack_bits if self.dense else unpack_words)(stream, self.bits, count)
        return unpacked.astype(np.float32) - np.float32(1 << self.bits - 1)

    def _scales(self, start: int, stop: int) -> Floats:
        name = f"{self.module}.weight_scale"
        if self.parts.tensors[name].elements == 1:
            return np.full((stop - start, 1), self.parts.number(name), np.float32)
        return self.parts.span(name, start * self.groups, stop * self.groups).reshape(stop - start, self.groups)

    def _zeros(self, start: int, stop: int) -> Floats:
        """Zero points [outputs, groups], packed along the outputs."""
        name = f"{self.module}.weight_zero_point"
        words, groups = self.parts.tensors[name].shape
        in_word = 32 // self.bits
        period, step = (32, self.bits) if self.dense else (in_word, 1)
        first, last = start // period * step, min(words, -(-stop // period) * step)
        view = View(name, first * groups, (groups, last - first), (1, groups))
        stream = read_stored(self.parts.source, view, 0, groups).reshape(groups, -1)
        skipped = start % period
        return np.ascontiguousarray(self._numbers(stream, skipped + stop - start)[:, skipped:].T)

    def _group_of_input(self) -> Any:
        name = f"{self.module}.weight_g_idx"
        if name not in self.parts.tensors:
            return None
        groups = self.parts.integers(name)
        if len(groups) == self.inputs and (groups == -1).all():
            return None  # what the library writes before a group is given to each input
        if len(groups) != self.inputs or groups.min() < 0 or groups.max() >= self.groups:
            raise self.parts.damaged(name, f"does not give one of {self.groups} groups to each of {self.inputs} inputs")
        return groups


def _layer(parts: Parts, module: str, packed: TensorInfo) -> _Layer:
    name = packed.name
    scale, shape = parts.need(f"{module}.weight_scale", name), parts.need(f"{module}.weight_shape", name)
    if shape.elements != 2 or len(packed.shape) != 2:
        raise parts.damaged(shape.name, "should hold the two sizes of a matrix")
    outputs, inputs = map(int, parts.integers(shape.name))
    if outputs != packed.shape[0] or inputs <= 0 or inputs > packed.shape[1] * 32:
        raise parts.damaged(name, f"has shape {list(packed.shape)}, which contradicts its weight_shape {[outputs, inputs]}")
    bits, dense = _bits(parts, name, inputs, packed.shape[1])
    groups = _groups(parts, packed, scale, inputs)
    zero = parts.tensors.get(f"{module}.weight_zero_point")
    if zero is not None:
        words = -(-outputs * bits // 32) if dense else -(-outputs // (32 // bits))
        if zero.dtype != "I32" or zero.shape != (words, groups):
            raise parts.damaged(zero.name, f"is {zero.dtype} of shape {list(zero.shape)}, not I32 of shape {[words, groups]}")
    return _Layer(parts, module, bits, dense, outputs, inputs, groups, zero is not None)


def _groups(parts: Parts, packed: TensorInfo, scale: TensorInfo, inputs: int) -> int:
    outputs = packed.shape[0]
    if scale.elements == 1:
        return 1
    groups, rest = divmod(scale.elements, outputs)
    if rest or scale.shape[0] != outputs or prod(scale.shape[1:]) != groups or groups > inputs or (inputs % groups and groups > 1):
        raise parts.damaged(packed.name, f"is {outputs} x {inputs}, which contradicts its scales of shape {list(scale.shape)}")
    return groups


def _bits(parts: Parts, name: str, inputs: int, words: int) -> tuple[int, bool]:
    """Bits of a number, and whether numbers run on across words. Raises DamagedFile."""
    stated = _stated_bits(parts)
    for bits in sorted(BITS, key=lambda bits: (bits not in stated, BITS.index(bits))):
        if -(-inputs * bits // 32) == words:
            return bits, True
        if -(-inputs // (32 // bits)) == words:
            return bits, False
    raise parts.damaged(name, f"has {words} words a row, which no number of bits explains for {inputs} inputs")


def _stated_bits(parts: Parts) -> set[int]:
    groups = parts.stated.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        if type(bits) is int:
            found.add(bits)
    return found
