"""optimum-quanto: the inner tensors of a weight under `weight._data`, `weight._scale` and `weight._shift`.

qint8, qfloat8   weight = _data * _scale, a scale a row
qint4, qint2     the weight, cut into groups [groups, size], = code * scale - shift, or (code - shift) * scale for a shift of whole numbers;
                 `weight._data._data`: byte row r holds group rows r, r + n, ... of n byte rows, the first in the lowest bits

The shape of a grouped weight is not stored. It follows from its bias, or from the hidden size and what the module's name says of it, or
from the sizes that config.json and the other tensors name, with the rule by which quanto chooses the size of groups; where several shapes
are left, from the columns: those of the true width differ most. Where nothing tells, the weight is left out and counted.
https://github.com/huggingface/optimum-quanto (optimum/quanto/tensor/weights/qbits.py, packed.py, grouped.py)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import INTEGERS, Found, Parts, Plain, Undecoded
from modelkin_indexer.quantised.scaled import scaled_weight

DATA, SCALE, SHIFT, PACKED = "._data", "._scale", "._shift", "._data._data"
SIDES = ("input_scale", "output_scale")
GROUPED = (128, 96, 64, 32)  # sizes of a group, the first that divides a row of more than 128 numbers
LARGEST_GROUP = 128
LOOKED_AT = 1 << 18  # numbers that are decoded to tell the width
# Least spread of the columns' energies, in standard deviations, by which a width is believed. By chance the best of all widths reaches 13
# (heavy-tailed numbers, 2^13 to 2^18 of them); columns that differ by 10 % in size give 55 to 180 at the true width of 256 rows and more.
CLEAR = 20.0
HIDDEN = ("hidden_size", "d_model", "n_embd", "dim")  # what configs call the width that runs through a model's layers
# The last words of names of layers whose columns have that width, and of those whose rows have.
READS = re.compile(r"(q|k|v|qkv|gate|up|gate_up)_proj|fc1|w[13]|wi(_[01])?|query_key_value|dense_h_to_4h|c_attn|c_fc|lm_head")
WRITES = re.compile(r"(o|down|out)_proj|fc2|w2|wo|dense_4h_to_h|c_proj")
ACROSS = re.compile(r"cross|encoder_attn|EncDec|add_")  # in names of layers that may read another model's width


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every weight that is stored as its inner tensors."""
    sizes: set[int] | None = None
    for name, info in parts.tensors.items():
        if name.endswith(PACKED) and info.dtype == "U8":
            sizes = _named_sizes(parts) if sizes is None else sizes
            yield _packed(parts, name.removesuffix(PACKED), info, sizes)
        elif name.endswith(DATA) and name.removesuffix(DATA) + SCALE in parts.tensors:
            weight = name.removesuffix(DATA)
            found = scaled_weight(parts, info, weight + SCALE)
            kind = {"I8": "quanto qint8"}.get(info.dtype, "quanto qfloat8")
            yield Plain(weight, info.shape, kind, _uses(parts, weight, name), found.rows)


def _uses(parts: Parts, weight: str, data: str) -> tuple[str, ...]:
    module = weight.rpartition(".")[0]
    sides = (weight + SCALE, weight + SHIFT, *(f"{module}.{side}" for side in SIDES))
    return (data, *(side for side in sides if side in parts.tensors))


def _packed(parts: Parts, weight: str, info: TensorInfo, sizes: set[int]) -> Found:
    scale, shift = parts.need(weight + SCALE, info.name), parts.need(weight + SHIFT, info.name)
    groups, size = scale.elements, prod(info.shape[1:])
    bits = next((bits for bits in (4, 2) if info.shape and info.shape[0] == -(-groups * bits // 8)), 0)
    if not bits or shift.elements != groups or not size:
        problem = f"has shape {list(info.shape)}, which contradicts {groups} scales and {shift.elements} shifts"
        raise parts.damaged(info.name, problem)
    layer = _Layer(parts, weight, bits, groups, size)
    shape = _shape(parts, layer, info, sizes)
    if shape is None:
        return Undecoded(f"quanto qint{bits}, in one of several shapes", _uses(parts, weight, info.name))
    kind = f"quanto qint{bits}" + (f", groups of {size}" if shape[-1] != size else "")
    return Plain(weight, shape, kind, _uses(parts, weight, info.name), lambda start, stop: layer.rows(start, stop, shape[-1]))


class _Layer(Struct, frozen=True, dict=True):
    parts: Parts
    weight: str
    bits: int
    groups: int
    size: int

    def rows(self, start: int, stop: int, columns: int) -> Floats:
        """Rows of `columns` numbers of the weight: parts of groups, or several."""
        first, last = start * columns, stop * columns
        top, bottom = first // self.size, -(-last // self.size)
        numbers = self._codes(top, bottom)
        scales, shifts = (self.parts.span(self.weight + last, top, bottom)[:, None] for last in (SCALE, SHIFT))
        if self.parts.tensors[self.weight + SHIFT].dtype in INTEGERS:
            numbers -= shifts
            numbers *= scales
        else:
            numbers *= scales
            numbers -= shifts
        return numbers.reshape(-1)[first - top * self.size : last - top * self.size].reshape(stop - start, columns)

    @cached_property
    def _stored(self) -> int:
        """Byte rows."""
        return -(-self.groups * self.bits // 8)

    def _codes(self, top: int, bottom: int) -> Floats:
        """Codes of groups [top, bottom)."""
        found = np.empty((bottom - top, self.size), np.float32)
        for part in range(top // self._stored, -(-bottom // self._stored)):
            low, high = max(top, part * self._stored), min(bottom, (part + 1) * self._stored)
            at = low - part * self._stored
            raw = self.parts.raw_bytes(self.weight + PACKED, at * self.size, (at + high - low) * self.size).reshape(-1, self.size)
            found[low - top : high - top] = raw >> np.uint8(part * self.bits) & np.uint8((1 << self.bits) - 1)
        return found


def _shape(parts: Parts, layer: _Layer, info: TensorInfo, sizes: set[int]) -> tuple[int, ...] | None:
    """The weight's shape; None where it could have several. A weight that is not grouped has that of its bytes, with its own rows."""
    if len(info.shape) > 2 or layer.size not in GROUPED:
        return (layer.groups, *info.shape[1:])
    bias = parts.tensors.get(layer.weight.removesuffix("weight") + "bias")
    if bias is not None and layer.groups % bias.elements == 0:
        return bias.elements, layer.groups // bias.elements * layer.size
    possible = [(layer.groups // count, count * layer.size) for count in range(1, layer.groups + 1) if layer.groups % count == 0]
    possible = [shape for shape in possible if _grouped(shape[1]) == layer.size]
    fits = [shape for shape in possible if _fits(parts, layer.weight.removesuffix(".weight"), shape)]
    if len(fits) == 1:
        return fits[0]
    named = [sum(size in sizes for size in shape) for shape in possible]
    return _by_columns(layer, [shape for shape, count in zip(possible, named, strict=True) if count == max(named)], bool(sizes))


def _fits(parts: Parts, module: str, shape: tuple[int, int]) -> bool:
    """Whether a shape is that of a layer of this name, which reads or writes the hidden size."""
    last = module.rpartition(".")[2]
    axis = 1 if READS.fullmatch(last) else 0 if WRITES.fullmatch(last) else None
    return axis is not None and not ACROSS.search(module) and shape[axis] in _hidden_sizes(parts)


def _hidden_sizes(parts: Parts) -> set[int]:
    return {value for section in _sections(parts) for key in HIDDEN if type(value := section.get(key)) is int}


def _grouped(columns: int) -> int:
    """The size of a group in rows of so many numbers; the row itself where it is not cut."""
    sizes = (size for size in GROUPED if columns % size == 0)
    return next(sizes, columns) if columns > LARGEST_GROUP else columns


def _by_columns(layer: _Layer, possible: Sequence[tuple[int, int]], told: bool) -> tuple[int, int] | None:
    """The shape whose columns differ most in size, if they do; else None where sizes are `told` that fit several.

    Where nothing at all is told, the one that is nearest to a square, of rows that are cut: the numbers are in order in any of them.
    """
    if len(possible) == 1:
        return possible[0]
    rows = min(layer.groups, max(1, LOOKED_AT // layer.size))
    numbers = layer.rows(0, rows, layer.size).reshape(-1)
    spread = {shape: _spread(numbers, shape[1]) for shape in possible}
    best = max(possible, key=lambda shape: (spread[shape], -shape[1]))
    if spread[best] >= CLEAR:
        return best
    if told:
        return None
    cut = [shape for shape in possible if shape[1] > layer.size] or possible
    return min(cut, key=lambda shape: (abs(np.log(shape[0] / shape[1])), shape))


def _spread(numbers: Floats, columns: int) -> float:
    """How far the columns' energies spread more than those of numbers in any order would, in standard deviations."""
    rows = len(numbers) // columns
    if rows < 2:
        return 0.0
    energies = np.square(numbers[: rows * columns], dtype=np.float64).reshape(rows, columns)
    energies /= energies.mean(axis=1, keepdims=True) + 1e-30
    between, within = energies.mean(axis=0).var(), energies.var() / rows
    return float((between / within - 1) * np.sqrt(columns / 2)) if within > 0 else 0.0


def _named_sizes(parts: Parts) -> set[int]:
    """Sizes that the config and plain tensors name."""
    found = {n for info in parts.tensors.values() if not info.name.endswith((DATA, SCALE, SHIFT)) for n in info.shape}
    for section in _sections(parts):
        numbers = {key: value for key, value in section.items() if type(value) is int and 0 < value < 1 << 20}
        found.update(numbers.values())
        found.update(_of_heads(numbers))
    return found


def _sections(parts: Parts) -> list[Mapping[str, Any]]:
    """The config and its parts, of a text model and a vision model."""
    return [parts.source.config, *(part for part in parts.source.config.values() if isinstance(part, Mapping))]


def _of_heads(numbers: Mapping[str, Any]) -> Iterator[int]:
    heads = numbers.get("num_attention_heads")
    width = numbers.get("head_dim") or (numbers["hidden_size"] // heads if heads and "hidden_size" in numbers else 0)
    for count in (heads, numbers.get("num_key_value_heads")):
        if count and width:
            yield count * width
