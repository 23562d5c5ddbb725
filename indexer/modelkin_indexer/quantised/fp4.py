"""Floats of four and six bits: MXFP4 and MXFP6 with a power of two for 32 numbers, NVFP4 with an FP8 scale for 16 and one of the whole.

gpt-oss         name_blocks [..., groups, 16], name_scales [..., groups]
compressed-tensors  weight_packed, weight_scale (U8 exponents, or FP8 divided by weight_global_scale); MXFP6 is E2M3, four in three bytes
ModelOpt        weight (U8), weight_scale (FP8), weight_scale_2 (one number, multiplied)
DeepSeek V4     weight (I8 or U8), weight_scale_inv or scale (exponents)

https://huggingface.co/openai/gpt-oss-20b (model card), transformers' integrations/mxfp4.py, OCP Microscaling Formats 1.0
"""

from __future__ import annotations

from collections.abc import Iterator

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.group_scales import EXPONENTS, GroupScales
from modelkin_indexer.quantised.parts import Parts, Plain
from modelkin_indexer.quantised.small_floats import Overall, SmallFloats

BYTES = ("U8", "I8")
GPT_OSS_BYTES = 16
GROUPS = {"mxfp4": 32, "nvfp4": 16}  # numbers under one scale


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
    weight = SmallFloats(parts, info.name, "E2M1", shape[-1], 2 * GPT_OSS_BYTES, GroupScales(parts, scales.name, groups))
    return Plain(name, shape, "mxfp4", (info.name, scales.name), weight.rows)


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
    form = _form(info, scale, kind)
    if form is None:
        raise parts.damaged(info.name, f"has shape {list(info.shape)}, which contradicts its scales of shape {list(scale.shape)}")
    code, columns, size = form
    module = info.name.rpartition(".")[0]
    whole = Overall(overall, divides=info.name.endswith("_packed"), height=info.shape[-2]) if overall else None
    weight = SmallFloats(parts, info.name, code, columns, size, GroupScales(parts, scale.name, scale.shape[-1]), whole)
    sides = (f"{module}.{last}" for last in ("input_scale", "input_global_scale", "weight_shape"))
    uses = (info.name, scale.name, *([overall] if overall else []), *(side for side in sides if side in parts.tensors))
    return Plain(f"{module}.weight", (*info.shape[:-1], columns), "mxfp6" if code == "E2M3" else kind, uses, weight.rows)


def _form(info: TensorInfo, scale: TensorInfo, kind: str) -> tuple[str, int, int] | None:
    """What the codes are, columns in all and under one scale. The last group may be short. None where the shapes contradict each other."""
    if len(info.shape) < 2 or scale.shape[:-1] != info.shape[:-1]:
        return None
    groups, width, usual = scale.shape[-1], info.shape[-1], GROUPS[kind]
    if -(-2 * width // usual) == groups:
        return "E2M1", 2 * width, usual
    if kind == "mxfp4" and width % 3 == 0 and -(-width * 4 // 3 // usual) == groups:
        return "E2M3", width * 4 // 3, usual
    return ("E2M1", 2 * width, 2 * width // groups) if 2 * width % groups == 0 else None
