"""Cases of ragged sizes (quantised_ragged.py) whose scales lie in tiles or whose rows are turned: comfy-kitchen's, torchao's MX forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch

from benchmarks.formats.quantised_cases import BFLOAT16, EXACT, MODULE, REFUSALS, SIZES, Case, weight

TILED = ((160, 256), (48, 512), (17, 768), (128, 256), (256, 512))  # what turned groups of 256 allow, beside the sizes of the others


def comfy_ragged() -> Iterator[Case]:
    import comfy_kitchen as kitchen

    turned: dict[str, Any] = {"convrot": True, "convrot_groupsize": 256}
    w4a8: dict[str, Any] = {"group_size": 16, "convrot_groupsize": 256}
    w4a8_uneven: dict[str, Any] = {**w4a8, "group_size": 32}
    layouts: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
        ("nvfp4", "", "TensorCoreNVFP4Layout", {}, {}),
        ("mxfp8", "", "TensorCoreMXFP8Layout", {}, {}),
        ("float8_e4m3fn", "", "TensorCoreFP8Layout", {"dtype": torch.float8_e4m3fn}, {}),
        ("float8_e5m2", "", "TensorCoreFP8Layout", {"dtype": torch.float8_e5m2}, {}),
        ("int8_tensorwise", "", "TensorWiseINT8Layout", {}, {}),
        ("int8_tensorwise", ", rows", "TensorWiseINT8Layout", {"per_channel": True}, {}),
        ("int8_tensorwise", ", turned", "TensorWiseINT8Layout", {"per_channel": True, **turned}, turned),
        ("convrot_w4a4", "", "TensorCoreConvRotW4A4Layout", {"convrot_groupsize": 256}, {"convrot_groupsize": 256}),
        ("asym_w4a8_int8", "", "AsymW4A8Int8Layout", w4a8, w4a8),
        ("asym_w4a8_int8", ", uneven", "AsymW4A8Int8Layout", {**w4a8_uneven, "symmetric": False, "codebook": False}, w4a8_uneven),
        ("asym_w4a8_int8", ", 6 bits", "AsymW4A8Int8Layout", {**w4a8, "bits": 6, "codebook": False}, w4a8),
    ]
    for rows, columns in (*SIZES, *TILED):
        for form, told, name, options, stated in layouts:
            layout = getattr(kitchen.tensor, name)
            with suppress(*REFUSALS):
                codes, params = layout.quantize(weight(rows, columns), **options)
                stored = {f"{MODULE}.weight{last}": part for last, part in layout.state_dict_tensors(codes, params).items()}
                mark = json.dumps({"format": form, **stated}).encode()
                stored[f"{MODULE}.comfy_quant"] = torch.frombuffer(bytearray(mark), dtype=torch.uint8)
                decoded = layout.dequantize(codes, params)[:rows, :columns].float()
                yield Case("comfy-kitchen", f"{form}{told}, {rows}x{columns}", stored, decoded, tolerance=BFLOAT16)


def torchao_tiled() -> Iterator[Case]:
    from torchao.prototype.mx_formats.mx_tensor import MXTensor
    from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    for rows, columns in (*SIZES, *TILED):
        for tiled in (False, True):
            told = f"{', in tiles' if tiled else ''}, {rows}x{columns}"
            w = weight(rows, columns)
            for name, kind in (("mxfp8", torch.float8_e4m3fn), ("mxfp8, e5m2", torch.float8_e5m2), ("mxfp4", torch.float4_e2m1fn_x2)):
                with suppress(*REFUSALS):
                    yield _torchao(flatten_tensor_state_dict, name + told, MXTensor.to_mx(w, kind, is_swizzled_scales=tiled))
            overall = w.abs().max() / (448 * 6)
            for name, whole in (("nvfp4", None), ("nvfp4, one scale over all", overall)):
                with suppress(*REFUSALS):
                    made = NVFP4Tensor.to_nvfp4(w, per_tensor_scale=whole, is_swizzled_scales=tiled)
                    yield _torchao(flatten_tensor_state_dict, name + told, made)


def _torchao(flatten: Any, name: str, made: Any) -> Case:
    stored, told = flatten({f"{MODULE}.weight": made})
    decoded = made.dequantize(torch.float32).float()
    return Case("torchao", name, stored, decoded, {"quant_method": "torchao"}, EXACT, metadata=told)
