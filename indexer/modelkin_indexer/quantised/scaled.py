"""Numbers of eight bits (FP8 or int8) with a scale for the tensor, each row, each group of columns or each block.

    weight[o, i] = scale[o // rows of a block, i // columns of a block] * (q[o, i] - zero point)

FP8 of DeepSeek (`weight_scale_inv`), compressed-tensors, fbgemm and ModelOpt (`weight_scale`), older ones of ComfyUI (`scale_weight`),
int8 of bitsandbytes (`SCB`, which is 127 times the scale), and `weight.qweight` with `weight.scale`.
https://huggingface.co/deepseek-ai/DeepSeek-V3/blob/main/inference/kernel.py (weight_dequant)
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import Floats, by_groups, exponents
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.sources.stored import values

FLOATS = {"F8_E4M3": "fp8 e4m3", "F8_E5M2": "fp8 e5m2"}
WORDS = {**FLOATS, "I8": "int8"}
SCALE_SUFFIXES = ("_scale_inv", "_scale")
SIDE_SUFFIXES = ("input_scale", "output_scale", "weight_shape", "input_global_scale", "input_zero_point", "output_zero_point")
BITSANDBYTES = 127.0


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """Every eight-bit tensor with a scale; those that should have one and do not are an error."""
    for name, info in parts.tensors.items():
        if info.dtype in WORDS and (scale := _scale_name(parts, name)) is not None:
            yield scaled_weight(parts, info, scale)
        elif info.dtype in FLOATS and parts.method in ("fp8", "fbgemm_fp8", "compressed-tensors") and not name.endswith("_scale"):
            raise parts.damaged(name, "is quantised, but its scale (weight_scale or weight_scale_inv) is missing")


def _scale_name(parts: Parts, name: str) -> str | None:
    module, _, last = name.rpartition(".")
    names = [name + suffix for suffix in SCALE_SUFFIXES]
    if last == "weight":
        names += [f"{module}.scale_weight", f"{module}.SCB"]
    if last == "qweight":
        names = [f"{module}.scale"]
    return next((scale for scale in names if scale in parts.tensors), None)


class Grid(Struct, frozen=True):
    """How scales lie over matrices [rows, columns], `height` x `width` numbers a scale, `tall` x `wide` scales a matrix."""

    rows: int
    columns: int
    tall: int
    wide: int
    height: int
    width: int

    @property
    def words(self) -> str:
        if self.height == self.rows and self.width == self.columns:
            return "one scale a tensor"
        if self.height == 1:
            return "one scale a row" if self.width >= self.columns else f"groups of {self.width}"
        return f"{self.height}x{self.width} blocks"


def scale_grid(parts: Parts, name: str, shape: tuple[int, ...], scale: TensorInfo) -> Grid:
    """The grid of a tensor's scales. Raises DamagedFile where the shapes contradict each other."""
    rows, columns = (1, *shape)[-2:]
    stack = prod(shape[:-2])
    if len(scale.shape) == 2 * len(shape) and set(scale.shape[1::2]) == {1}:  # ModelOpt's blocks keep the axes that they were cut along
        scale = replace(scale, shape=scale.shape[::2])
    numbers, (height, width) = scale.elements, _stated_block(parts, name)
    if numbers == 1 and (height < rows or width < columns or stack > 1):
        return Grid(rows * stack, columns, 1, 1, rows * stack, columns)
    if numbers == stack and stack > 1:
        return Grid(rows, columns, 1, 1, rows, columns)
    if numbers == stack * rows and scale.shape[-1:] in ((1,), shape[-2:-1]) and scale.shape != (1, rows):
        return Grid(rows, columns, rows, 1, 1, columns)
    tall, wide = (1, *scale.shape)[-2:]
    if (len(scale.shape) != len(shape) and numbers > 1) or tall * wide * stack != numbers:
        raise parts.damaged(name, f"has shape {list(shape)}, which contradicts its scales of shape {list(scale.shape)}")
    height, width = _length(rows, tall, height), _length(columns, wide, width)
    if not height or not width:
        raise parts.damaged(name, f"has shape {list(shape)}, which contradicts its scales of shape {list(scale.shape)}")
    return Grid(rows, columns, tall, wide, height, width)


def _length(numbers: int, scales: int, stated: int) -> int:
    """Numbers that share a scale along one axis: as stated if that adds up, else by division; 0 where neither does."""
    if stated and -(-numbers // stated) == scales:
        return stated
    return numbers // scales if numbers % scales == 0 else 0


def _stated_block(parts: Parts, name: str) -> tuple[int, int]:
    """Rows and columns of a block by the config, (0, 0) where it says nothing."""
    stated: Any = parts.stated.get("weight_block_size")
    groups = parts.stated.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        stated = stated or (weights.get("block_structure") if isinstance(weights, dict) else None)
    if stated is None:
        return 0, 0
    if not isinstance(stated, list) or len(stated) != 2 or not all(type(n) is int and n > 0 for n in stated):
        raise parts.damaged(name, f"config.json says that it is quantised in blocks of {stated!r}")
    return stated[0], stated[1]


def scale_rows(parts: Parts, scale: str, grid: Grid, start: int, stop: int) -> Floats:
    """Scales of rows [start, stop), counted over all matrices of a stack: [stop - start, scales along the columns]."""
    numbers = np.arange(start, stop)
    lines = numbers // grid.rows * grid.tall + numbers % grid.rows // grid.height
    first, last = int(lines[0]), int(lines[-1]) + 1
    info = parts.tensors[scale]
    stored = parts.raw_span(scale, first * grid.wide, last * grid.wide) if info.dtype == "U8" else None
    found = exponents(stored) if stored is not None else parts.span(scale, first * grid.wide, last * grid.wide)
    chosen: Floats = found.reshape(last - first, grid.wide)[lines - first]
    return chosen


def scaled_weight(parts: Parts, info: TensorInfo, scale: str) -> Plain:
    """A weight of one byte a number with its scales. Raises DamagedFile where their shapes contradict each other."""
    grid = scale_grid(parts, info.name, info.shape, parts.tensors[scale])
    zero = _zero_name(parts, info, scale)
    factor = np.float32(1 / BITSANDBYTES if scale.endswith(".SCB") else 1)

    def fill(start: int, stop: int, out: Floats) -> None:
        scales = scale_rows(parts, scale, grid, start, stop) * factor
        if zero is None and scales.shape[1] * grid.width == out.shape[1]:
            values.decode_groups(info.dtype, parts.raw_rows(info.name, start, stop).reshape(-1), out, scales)
            return
        parts.rows(info.name, start, stop, out)
        if zero is not None:
            by_groups(np.subtract, out, scale_rows(parts, zero, grid, start, stop), grid.width)
        by_groups(np.multiply, out, scales, grid.width)

    def rows(start: int, stop: int) -> Floats:
        numbers = np.empty((stop - start, info.shape[-1] if info.shape else 1), np.float32)
        fill(start, stop, numbers)
        return numbers

    kind = "bitsandbytes int8" if scale.endswith(".SCB") else f"{WORDS[info.dtype]}, {grid.words}"
    return Plain(_plain_name(info.name), info.shape, kind, (info.name, scale, *_sides(parts, info, zero)), rows, fill)


def _plain_name(name: str) -> str:
    module, _, last = name.rpartition(".")
    return module if last == "qweight" else name


def _zero_name(parts: Parts, info: TensorInfo, scale: str) -> str | None:
    """The tensor with zero points, if there is one of the scales' shape."""
    name = scale.removesuffix("_scale") + "_zero_point"
    if info.dtype != "I8" or name not in parts.tensors:
        return None
    if parts.tensors[name].shape != parts.tensors[scale].shape:
        raise parts.damaged(name, f"has shape {list(parts.tensors[name].shape)}, but its scales {list(parts.tensors[scale].shape)}")
    return name


def _sides(parts: Parts, info: TensorInfo, zero: str | None) -> list[str]:
    """Further tensors of the module that belong to the quantisation and hold no weights."""
    module = info.name.rpartition(".")[0]
    names = [f"{module}.{last}" for last in (*SIDE_SUFFIXES, "weight_format")] + [info.name + "_zero_point"]
    return [*([zero] if zero else []), *(name for name in names if name in parts.tensors and name != zero)]
