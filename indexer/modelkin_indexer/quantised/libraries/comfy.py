"""ComfyUI's quantised layers. They carry the names, dtypes and shapes of other libraries' forms, but not their layout; what tells them is a
tensor `comfy_quant` in the module (JSON as bytes), or `_quantization_metadata` of the file, which says the same of modules by name.

nvfp4           weight (U8): E2M1, the high half of a byte first; weight_scale: E4M3 in tiles; weight_scale_2
mxfp8           weight (FP8); weight_scale: powers of two in tiles
float8_*        weight (FP8), weight_scale
others          whole numbers: comfy_integers.py

Rows and columns are padded to multiples of 16 (nvfp4) or 32 (mxfp8) with zeros, which nothing tells; zeros at the ends of all rows, fewer
than that, are taken for padding. A weight that was smoothed is multiplied with its `pre_quant_scale` again.
https://github.com/Comfy-Org/comfy-kitchen (tensor/), https://github.com/Comfy-Org/ComfyUI (comfy/ops.py, comfy/quant_ops.py)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised import layouts
from modelkin_indexer.quantised.group_scales import GroupScales, tiled_size
from modelkin_indexer.quantised.libraries import comfy_integers
from modelkin_indexer.quantised.libraries.comfy_integers import Layer
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Rows, Undecoded
from modelkin_indexer.quantised.scaled import scaled_weight
from modelkin_indexer.quantised.small_floats import Overall, SmallFloats

MARK, METADATA = ".comfy_quant", "_quantization_metadata"
SIDES = ("weight_scale", "weight_scale_2", "weight_s_rel", "weight_s_channel", "weight_codebook", "weight_correction", "weight_zeros",
         "input_scale", "pre_quant_scale", "comfy_quant")  # fmt: skip
PADDED = {"nvfp4": 16, "mxfp8": 32}
SEEN_ROWS = 16  # looked at to find padded columns: that a code is zero in all of them by chance happens once in 10^16


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every module that is marked as ComfyUI's, or in its layout."""
    marked = _marked(parts)
    for module, stated in marked.items():
        weight = parts.tensors.get(f"{module}.weight")
        if weight is not None:
            yield _found(parts, Layer(parts, module, weight, stated))
    yield from _unmarked(parts, marked)


def _unmarked(parts: Parts, marked: Container[str]) -> Iterator[Found]:
    """Modules in ComfyUI's layout that nothing marks, and those that could be in it."""
    weights = [weight for weight in layouts.unmarked(parts) if weight.module not in marked]
    found = layouts.layout(weights)
    if found == layouts.PLAIN:
        return
    for weight in weights:
        layer = Layer(parts, weight.module, parts.tensors[f"{weight.module}.weight"], {"format": weight.form})
        yield _found(parts, layer) if found else Undecoded(f"{weight.form}, in one of two layouts", _uses(layer))


def _found(parts: Parts, layer: Layer) -> Found:
    form = str(layer.stated.get("format", ""))
    maker = FORMS.get(form)
    is_known = maker is not None and (form in comfy_integers.FORMS or not layer.says("convrot"))
    plain = maker(layer) if maker is not None and is_known else None
    if plain is None:
        return Undecoded(f"ComfyUI {form[:40]}{', turned' if layer.says('convrot') else ''}", _uses(layer))
    return replace(_smoothed(parts, layer, plain), uses=_uses(layer))


def _uses(layer: Layer) -> tuple[str, ...]:
    return (layer.weight.name, *(name for side in SIDES if (name := f"{layer.module}.{side}") in layer.parts.tensors))


def _marked(parts: Parts) -> Mapping[str, Mapping[str, Any]]:
    """What is said of each module. Of a mark that is no JSON object nothing is known: its module is not decoded."""
    found: dict[str, Mapping[str, Any]] = {}
    for module, stated in _listed(parts).items():
        if (name := _full_name(parts, module)) and isinstance(stated, (dict, str)):
            found[name] = stated if isinstance(stated, dict) else {"format": stated}
    for name in parts.tensors:
        if name.endswith(MARK):
            try:
                stated = json.loads(parts.small(name).tobytes().rstrip(b"\0"))
            except (ValueError, RecursionError) as error:
                raise parts.damaged(name, "is not the JSON that ComfyUI writes") from error
            found[name.removesuffix(MARK)] = stated if isinstance(stated, dict) else {}
    return found


def _listed(parts: Parts) -> Mapping[str, Any]:
    """The modules of the file's metadata."""
    try:
        said = json.loads(parts.metadata.get(METADATA, "{}"))
    except (ValueError, RecursionError):
        return {}
    layers = said.get("layers") if isinstance(said, dict) else None
    return layers if isinstance(layers, dict) else {}


def _full_name(parts: Parts, module: str) -> str:
    """The module's name in the file: some writers leave out the prefix of the diffusion model. "" if it is not there, or there twice."""
    if f"{module}.weight" in parts.tensors:
        return module
    full = [name.removesuffix(".weight") for name in parts.tensors if name.endswith(f".{module}.weight")]
    return full[0] if len(full) == 1 else ""


def _smoothed(parts: Parts, layer: Layer, plain: Plain) -> Plain:
    """With what the inputs are multiplied with before the layer."""
    name = f"{layer.module}.pre_quant_scale"
    if name not in parts.tensors:
        return plain
    if parts.tensors[name].elements < plain.shape[-1]:
        raise parts.damaged(name, f"has {parts.tensors[name].elements} numbers for {plain.shape[-1]} inputs")
    return replace(plain, rows=lambda start, stop: plain.rows(start, stop) * parts.span(name, 0, plain.shape[-1]), fill=None)


def _nvfp4(layer: Layer) -> Plain | None:
    if layer.weight.dtype != "U8" or len(layer.weight.shape) < 2:
        return None
    columns, overall = 2 * layer.weight.shape[-1], layer.need("weight_scale_2")
    scales = _tiled(layer, layer.need("weight_scale"), -(-columns // 16), "F8_E4M3")
    whole = Overall(overall.name, height=layer.rows)
    weight = SmallFloats(layer.parts, layer.weight.name, "E2M1", columns, 16, scales, whole, high_first=True)
    return _unpadded(layer, weight.rows, columns, "nvfp4")


def _mxfp8(layer: Layer) -> Plain | None:
    if layer.weight.dtype not in ("F8_E4M3", "F8_E5M2") or len(layer.weight.shape) < 2:
        return None
    columns = layer.weight.shape[-1]
    scales = _tiled(layer, layer.need("weight_scale"), -(-columns // 32), "F8_E8M0")
    weight = SmallFloats(layer.parts, layer.weight.name, layer.weight.dtype, columns, 32, scales)
    return _unpadded(layer, weight.rows, columns, "mxfp8")


def _float8(layer: Layer) -> Plain | None:
    parts, weight = layer.parts, layer.weight
    if weight.dtype not in ("F8_E4M3", "F8_E5M2"):
        return None
    if f"{layer.module}.weight_scale" not in parts.tensors:  # a plain cast
        return layer.plain(weight.shape[-1], "fp8", lambda start, stop: parts.rows(weight.name, start, stop))
    return scaled_weight(parts, weight, f"{layer.module}.weight_scale")


def _tiled(layer: Layer, scale: TensorInfo, groups: int, kind: str) -> GroupScales:
    """Scales in tiles, one set of tiles a matrix of a stack."""
    wanted = layer.matrices * tiled_size(layer.rows, groups)
    if scale.elements != wanted or scale.dtype not in ("U8", kind):
        problem = f"has {scale.elements} numbers of {scale.dtype}, but {wanted} of {kind} belong to {list(layer.weight.shape)}"
        raise layer.parts.damaged(scale.name, problem)
    return GroupScales(layer.parts, scale.name, groups, kind, tiled=True, height=layer.rows)


def _unpadded(layer: Layer, rows: Rows, columns: int, form: str) -> Plain:
    """The weight without the zeros at the ends of its rows and columns that are there to fill it up."""
    name, height = f"{layer.module}.weight", layer.rows
    if layer.matrices == 1:
        most = PADDED[form] - 1
        columns -= _zeros_at_end(rows(0, min(SEEN_ROWS, height)).T, most)
        if f"{layer.module}.bias" in layer.parts.tensors:
            height = min(height, layer.parts.tensors[f"{layer.module}.bias"].elements)
        else:
            height -= _zeros_at_end(rows(max(0, height - most - 1), height), most)
    shape = (*layer.weight.shape[:-2], height, columns)
    return Plain(name, shape, f"{form} (ComfyUI)", (layer.weight.name,), lambda start, stop: rows(start, stop)[:, :columns])


def _zeros_at_end(lines: Floats, most: int) -> int:
    """How many lines at the end hold nothing but zeros, `most` at the most; 0 if all do."""
    full = np.flatnonzero(lines.any(axis=1))
    return min(most, len(lines) - 1 - int(full[-1])) if len(full) else 0


FORMS: Mapping[str, Callable[[Layer], Plain | None]] = {
    "nvfp4": _nvfp4,
    "mxfp8": _mxfp8,
    "float8_e4m3fn": _float8,
    "float8_e5m2": _float8,
    **comfy_integers.FORMS,
}
