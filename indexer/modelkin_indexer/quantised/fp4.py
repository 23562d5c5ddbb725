"""Four-bit floats (E2M1): MXFP4 with a power of two for 32 numbers, NVFP4 with an FP8 scale for 16 and one scale of the whole.

gpt-oss         name_blocks [..., groups, 16], name_scales [..., groups]
compressed-tensors  weight_packed, weight_scale (U8 exponents, or FP8 divided by weight_global_scale)
ModelOpt        weight (U8), weight_scale (FP8), weight_scale_2 (one number, multiplied)
DeepSeek V4     weight (I8 or U8), weight_scale_inv or scale (exponents)

https://huggingface.co/openai/gpt-oss-20b (model card), transformers' integrations/mxfp4.py, OCP Microscaling Formats 1.0
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import FP4_VALUES, Bytes, Floats, exponents, nibbles, over_columns
from modelkin_indexer.quantised.parts import Parts, Plain

BYTES = ("U8", "I8")
EXPONENTS = ("U8", "F8_E8M0")
GPT_OSS_BYTES = 16


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """All tensors of four-bit floats."""
    for name, info in parts.tensors.items():
        if name.endswith("_blocks") and info.dtype == "U8":
            yield _blocks(parts, info)
        elif (found := _module_weight(parts, info)) is not None:
            yield found


def _blocks(parts: Parts, info: TensorInfo) -> Plain:
    """gpt-oss: presented [experts, out, in], as it is stored."""
    name = info.name.removesuffix("_blocks")
    scales = parts.need(f"{name}_scales", info.name)
    if len(info.shape) < 2 or info.shape[-1] != GPT_OSS_BYTES or scales.shape != info.shape[:-1] or scales.dtype != "U8":
        problem = f"has shape {list(info.shape)}, which contradicts its scales {scales.dtype} of shape {list(scales.shape)}"
        raise parts.damaged(info.name, problem)
    groups = info.shape[-2]
    shape = (*info.shape[:-2], groups * 2 * GPT_OSS_BYTES)
    weight = _Weight(parts, info.name, scales.name, shape[-1], groups, 2 * GPT_OSS_BYTES, None, multiply=True)
    return Plain(name, shape, "mxfp4", (info.name, scales.name), weight.rows)


@dataclass(frozen=True)
class _Weight:
    parts: Parts
    name: str
    scale: str
    columns: int
    groups: int
    size: int
    overall: str | None
    multiply: bool

    def rows(self, start: int, stop: int) -> Floats:
        half = self.columns // 2
        packed: Bytes = self.parts.raw_span(self.name, start * half, stop * half).reshape(stop - start, half)
        numbers: Floats = FP4_VALUES[nibbles(packed)]
        numbers *= over_columns(self._scales(start, stop), self.size, self.columns)
        return numbers

    def _scales(self, start: int, stop: int) -> Floats:
        first, last = start * self.groups, stop * self.groups
        if self.parts.tensors[self.scale].dtype in EXPONENTS:
            found = exponents(self.parts.raw_span(self.scale, first, last))
        else:
            found = self.parts.span(self.scale, first, last)
        if self.overall is not None:
            overall = np.float32(self.parts.number(self.overall))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found = found * overall if self.multiply else found / overall
        return found.reshape(stop - start, self.groups)


def _module_weight(parts: Parts, info: TensorInfo) -> Plain | None:
    """A packed weight with a scale in its module; None if this is none of four-bit floats."""
    module, _, last = info.name.rpartition(".")
    if info.dtype not in BYTES or last not in ("weight_packed", "weight"):
        return None
    names = (f"{module}.weight_scale", f"{module}.weight_scale_inv", f"{module}.scale")
    scale = next((parts.tensors[name] for name in names if name in parts.tensors), None)
    if scale is None:
        if last == "weight_packed":
            parts.need(names[0], info.name)
        return None
    micro = scale.dtype in EXPONENTS
    overall = f"{module}.weight_global_scale" if last == "weight_packed" else f"{module}.weight_scale_2"
    if not micro and (info.dtype != "U8" or scale.dtype != "F8_E4M3"):
        return None
    if not micro:
        parts.need(overall, info.name)
    return _checked(parts, info, scale, overall if overall in parts.tensors else None, "mxfp4" if micro else "nvfp4")


def _checked(parts: Parts, info: TensorInfo, scale: TensorInfo, overall: str | None, kind: str) -> Plain:
    columns = 2 * info.shape[-1] if info.shape else 0
    groups = scale.shape[-1] if scale.shape else 0
    if len(info.shape) < 2 or scale.shape[:-1] != info.shape[:-1] or not groups or columns % groups:
        raise parts.damaged(info.name, f"has shape {list(info.shape)}, which contradicts its scales of shape {list(scale.shape)}")
    packed = info.name.endswith("_packed")
    weight = _Weight(parts, info.name, scale.name, columns, groups, columns // groups, overall, multiply=not packed)
    module = info.name.rpartition(".")[0]
    sides = (f"{module}.{last}" for last in ("input_scale", "input_global_scale", "weight_shape"))
    uses = (info.name, scale.name, *([overall] if overall else []), *(side for side in sides if side in parts.tensors))
    shape = (*info.shape[:-1], columns)
    return Plain(f"{module}.weight", shape, kind, uses, weight.rows)
