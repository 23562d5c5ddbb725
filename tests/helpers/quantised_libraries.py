"""Quantised layers of single libraries, written number by number; what they hold when decoded beside them."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
from msgspec.structs import replace

from quantised_models import IN, OUT, Layer, fp4_values, random

H4 = np.array([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], np.float64) / 2


def in_tiles(scales: Any) -> Any:
    """Scales [rows, groups] as tensor cores read them, number by number: padded, in tiles of 128 rows and 4 columns."""
    rows, groups = scales.shape
    tall, wide = -(-rows // 128), -(-groups // 4)
    stored = np.zeros(tall * wide * 512, scales.dtype)
    for row in range(rows):
        for group in range(groups):
            tile = row // 128 * wide + group // 4
            stored[tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + group % 4] = scales[row, group]
    return stored.reshape(tall * 128, wide * 4)


def marked(stored: dict[str, Any], kind: str, weight: Any, **stated: Any) -> Layer:
    """A layer of ComfyUI."""
    mark = np.frombuffer(json.dumps(stated).encode(), np.uint8)
    return Layer("comfy", kind, {**stored, "comfy_quant": mark}, weight)


def comfy_nvfp4(padding: int = 0) -> Layer:
    """`padding`: rows and columns of zeros at the ends."""
    rng = random(80)
    codes = rng.integers(1, 8, (OUT, IN)) + 8 * rng.integers(0, 2, (OUT, IN))
    rows, columns = OUT - padding, IN - padding
    codes[rows:], codes[:, columns:] = 0, 0
    scales = (rng.random((OUT, IN // 16)) * 400 + 1).astype(ml_dtypes.float8_e4m3fn)
    weight = fp4_values(codes) * np.repeat(scales.astype(np.float32), 16, 1) * np.float32(1 / 128)
    stored = {
        "weight": (codes[:, 0::2] << 4 | codes[:, 1::2]).astype(np.uint8),
        "weight_scale": in_tiles(scales),
        "weight_scale_2": np.array(1 / 128, np.float32),
    }
    return marked(stored, "nvfp4 (ComfyUI)", weight[:rows, :columns], format="nvfp4")


def comfy_mxfp8() -> Layer:
    codes = random(81).standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn)
    scales = random(82).integers(110, 130, (OUT, IN // 32)).astype(np.uint8)
    weight = codes.astype(np.float32) * np.repeat(np.exp2(scales.astype(np.float32) - 127), 32, 1)
    return marked({"weight": codes, "weight_scale": in_tiles(scales)}, "mxfp8 (ComfyUI)", weight, format="mxfp8")


def unturned(numbers: Any, size: int) -> Any:
    """Each group of `size` columns multiplied with the Hadamard matrix of that size."""
    turn = np.eye(1)
    while len(turn) < size:
        turn = np.kron(turn, H4)
    return (numbers.reshape(len(numbers), -1, size) @ turn).reshape(numbers.shape)


def comfy_turned(form: str, size: int = 16) -> Layer:
    rng = random(83)
    scales = rng.random(OUT).astype(np.float32)
    if form == "int8_tensorwise":
        codes = rng.integers(-127, 128, (OUT, IN))
        stored = {"weight": codes.astype(np.int8), "weight_scale": scales[:, None]}
        kind, numbers = "int8, turned (ConvRot)", codes * scales[:, None]
    else:
        codes = rng.integers(-8, 8, (OUT, IN))
        stored = {"weight": (codes[:, 0::2] & 15 | (codes[:, 1::2] & 15) << 4).astype(np.uint8).view(np.int8), "weight_scale": scales}
        kind, numbers = "int4, turned (ConvRot W4A4)", codes * scales[:, None]
    layer = marked(stored, kind, unturned(numbers, size), format=form, convrot=True, convrot_groupsize=size)
    return replace(layer, summed=float(np.abs(numbers).max()))


def comfy_w4a8(bits: int, book: bool = False, correction: bool = False) -> Layer:
    rng = random(84 + bits)
    codes, groups = rng.integers(0, 2**bits, (OUT, IN)), IN // 16
    relative, channel = (rng.random((OUT, groups)) * 2).astype(ml_dtypes.float8_e4m3fn), rng.random(OUT).astype(np.float32)
    levels = np.sort(rng.standard_normal(16) * 50).astype(np.float32) if book else np.arange(2**bits, dtype=np.float32) - 2 ** (bits - 1)
    grid = np.clip(np.rint(levels[codes] * np.repeat(relative.astype(np.float32), 16, 1)), -127, 127)
    added = rng.standard_normal((groups, OUT)).astype(np.float32) if correction else np.zeros((groups, OUT), np.float32)
    numbers = grid * channel[:, None] + np.repeat(added.T, 16, 1)
    packed = codes[:, 0::2] & 15 | (codes[:, 1::2] & 15) << 4
    if bits == 6:
        high = (codes >> 4).reshape(OUT, -1, 4)
        packed = np.concatenate([packed, high @ np.array([1, 4, 16, 64])], axis=1)
    stored = {
        "weight": packed.astype(np.uint8).view(np.int8),
        "weight_s_rel": relative,
        "weight_s_channel": channel,
        **({"weight_codebook": levels} if book else {}),
        **({"weight_correction": added} if correction else {}),
    }
    kind = f"int{bits}, turned (ConvRot W{bits}A8)"
    layer = marked(stored, kind, unturned(numbers, 16), format="asym_w4a8_int8", params={"convrot_groupsize": 16})
    return replace(layer, summed=float(np.abs(numbers).max()))


def comfy_awq() -> Layer:
    rng = random(90)
    codes, scales, zeros = rng.integers(0, 16, (OUT, IN)), rng.random((3, OUT)), rng.standard_normal((3, OUT))
    stored = {"weight": (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8).view(np.int8)}
    stored |= {"weight_scale": scales.astype(np.float32), "weight_zeros": zeros.astype(np.float32)}
    weight = (codes - 8) * np.repeat(scales.T, 32, 1) + np.repeat(zeros.T, 32, 1)
    return replace(marked(stored, "awq 4 bits, groups of 32 (ComfyUI)", weight, format="awq_w4a16", group_size=32), summed=8.0)


def ao_floats(form: str, tiled: bool = False, overall: bool = False) -> Layer:
    """torchao's MXFP8, MXFP4 and NVFP4; the shape of scales in tiles is its own."""
    rng = random(91)
    size, bits = {"mxfp8": (32, 8), "mxfp4": (32, 4), "nvfp4": (16, 4)}[form]
    codes = rng.integers(0, 16, (OUT, IN))
    if bits == 8:
        data = rng.standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn)
        values = data.astype(np.float32)
    else:
        data, values = (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8), fp4_values(codes)
    powers = np.exp2(rng.integers(-9, 3, (OUT, IN // size))).astype(ml_dtypes.float8_e8m0fnu)
    scales = powers if size == 32 else (rng.random((OUT, IN // 16)) * 400 + 1).astype(ml_dtypes.float8_e4m3fn)
    weight = values * np.repeat(scales.astype(np.float32), size, 1) * np.float32(0.25 if overall else 1)
    stored = {"_weight_qdata": data, "_weight_scale": in_tiles(scales).reshape(32, -1) if tiled else scales}
    if overall:
        stored["_weight_per_tensor_scale"] = np.array(0.25, np.float32)
    return Layer("torchao", form, stored, weight, {"quant_method": "torchao"})


def ao_int4() -> Layer:
    rng = random(92)
    codes, scales, zeros = rng.integers(-8, 8, (OUT, IN)), rng.random((3, OUT)), rng.standard_normal((3, OUT))
    packed = (codes[:, 0::2] & 15 | (codes[:, 1::2] & 15) << 4).astype(np.uint8).view(np.int8)
    stored = {"_weight_qdata": packed, "_weight_scale": scales.astype(np.float32), "_weight_zero_point": zeros.astype(np.float32)}
    weight = codes * np.repeat(scales.T, 32, 1) + np.repeat(zeros.T, 32, 1)
    return Layer("torchao", "int4, groups of 32", stored, weight, {"quant_method": "torchao"}, summed=8.0)


def ao_int8() -> Layer:
    codes, scales = random(50).integers(-8, 8, (OUT, IN)).astype(np.int8), random(51).random((OUT, IN // 32)).astype(np.float32)
    zeros = random(52).integers(-3, 4, (OUT, IN // 32)).astype(np.int8)
    stored = {"_weight_qdata": codes, "_weight_scale": scales, "_weight_zero_point": zeros}
    weight = (codes - np.repeat(zeros, 32, 1)) * np.repeat(scales, 32, 1)
    return Layer("torchao", "int8, groups of 32", stored, weight, {"quant_method": "torchao"})


def bitnet(linear: str = "bitlinear", rows: int = OUT, stated: bool = True) -> Layer:
    codes = random(93).integers(0, 3, (rows, IN))
    codes[-1] = 2
    height = -(-rows // 4)
    filled = np.concatenate([codes, np.zeros((4 * height - rows, IN), int)]).reshape(4, height, IN)
    packed = sum(part << 2 * number for number, part in enumerate(filled)).astype(np.uint8)
    scale = 0.25 if linear == "autobitlinear" else 50.0
    stored = {"weight": packed, "weight_scale": np.array([scale], ml_dtypes.bfloat16)}
    weight = (codes - 1) * np.float32(scale if linear == "autobitlinear" else 1 / scale)
    return Layer("bitnet", "BitNet, ternary", stored, weight, {"quant_method": "bitnet", "linear_class": linear} if stated else {})


def quanto(bits: int, size: int = IN, whole: bool = False, rows: int = OUT, columns: int = IN) -> Layer:
    """Numbers of columns in another order of size, as in real weights; `whole`: the shift is of whole numbers."""
    rng = random(94)
    groups = rows * columns // size
    codes = rng.binomial(2**bits - 1, 0.5, (groups, size))
    scales, shifts = rng.random((groups, 1)).astype(np.float32), rng.random((groups, 1)).astype(np.float32)
    shifts = rng.integers(0, 2**bits, (groups, 1)).astype(np.int8) if whole else shifts
    weight = (codes - shifts) * scales if whole else codes * scales - shifts
    count = 8 // bits
    height = -(-groups // count)
    filled = np.concatenate([codes, np.zeros((count * height - groups, size), int)]).reshape(count, height, size)
    packed = sum(part << bits * number for number, part in enumerate(filled)).astype(np.uint8)
    one = np.ones((), np.float32)
    stored = {"weight._data._data": packed, "weight._scale": scales, "weight._shift": shifts, "input_scale": one, "output_scale": one}
    kind = f"quanto qint{bits}" + (f", groups of {size}" if columns != size else "")
    return Layer("quanto", kind, stored, weight.reshape(rows, columns), summed=float(2**bits))


def quanto_bytes(dtype: Any) -> Layer:
    numbers = random(95).standard_normal((OUT, IN)) * 20
    codes, scales = numbers.astype(dtype), random(96).random((OUT, 1)).astype(np.float32)
    kind = "quanto qint8" if dtype == np.int8 else "quanto qfloat8"
    return Layer("quanto", kind, {"weight._data": codes, "weight._scale": scales}, codes.astype(np.float32) * scales)


def sparse(offsets: bool, scaled: bool = False) -> Layer:
    """Half of the numbers, two of each four or (with `offsets`) anywhere."""
    rng = random(97)
    kept = (
        rng.random((OUT, IN)) < 0.5
        if offsets
        else rng.permuted(np.tile([True, True, False, False], (OUT, IN // 4, 1)), axis=-1).reshape(OUT, IN)
    )
    numbers = rng.standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn if scaled else np.float32)
    scales = rng.random((OUT, 1)).astype(np.float32)
    stored = {"compressed": numbers[kept] if offsets else numbers[kept].reshape(OUT, -1), "shape": np.array([[OUT], [IN]])}
    stored["bitmask"] = np.array(
        [[sum(int(kept[row, 8 * byte + bit]) << bit for bit in range(8)) for byte in range(IN // 8)] for row in range(OUT)], np.uint8
    )
    if offsets:
        stored["row_offsets"] = np.cumsum(kept.sum(1)) - kept.sum(1)
    weight = np.where(kept, numbers.astype(np.float32), 0)
    if scaled:
        return Layer("sparse", "sparse, marked by bits, one scale a row", {**stored, "weight_scale": scales}, weight * scales)
    if offsets:  # the older form names the weight
        stored = {f"weight.{last}": tensor for last, tensor in stored.items()}
    return Layer("sparse", "sparse, marked by bits", stored, weight)


def modelopt(smoothed: bool = True) -> Layer:
    rng, size = random(90), IN // 2
    codes, scales = rng.integers(-8, 8, (OUT, IN)), rng.random((OUT, 2)).astype(np.float32)
    before = (1 + rng.random(IN)).astype(ml_dtypes.bfloat16)
    stored = {"weight": ((codes[0::2] & 15) | (codes[1::2] & 15) << 4).astype(np.uint8), "weight_scale": scales}
    weight = codes * np.repeat(scales, size, 1)
    if smoothed:
        stored, weight = (
            {**stored, "pre_quant_scale": before, "weight_scale_2": np.array(2, np.float32)},
            weight * before.astype(np.float32),
        )
    return Layer("modelopt", f"int4, groups of {size} (ModelOpt)", stored, weight)


def modelopt_blocks() -> Layer:
    """FP8 in blocks, whose scales keep the axes that the blocks were cut along."""
    codes = random(91).standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn)
    scales = random(92).random((2, 1, 4, 1)).astype(np.float32)
    tall, wide = OUT // 2, IN // 4
    weight = codes.astype(np.float32) * np.repeat(np.repeat(scales[:, 0, :, 0], tall, 0), wide, 1)
    return Layer("scaled", f"fp8 e4m3, {tall}x{wide} blocks", {"weight": codes, "weight_scale": scales}, weight)


def every_layer() -> dict[str, Layer]:
    """One of each form."""
    layers = {f"torchao {form}{' tiled' * tiled}": ao_floats(form, tiled) for form in ("mxfp8", "mxfp4", "nvfp4") for tiled in (0, 1)}
    layers |= {"torchao overall": ao_floats("nvfp4", overall=True), "torchao int4": ao_int4(), "torchao int8": ao_int8()}
    layers |= {f"bitnet {linear}": bitnet(linear) for linear in ("bitlinear", "autobitlinear")} | {"bitnet unsaid": bitnet(stated=False)}
    layers |= {f"quanto {bits} {whole}": quanto(bits, whole=whole) for bits in (2, 4) for whole in (False, True)}
    layers |= {f"quanto {np.dtype(dtype).name}": quanto_bytes(dtype) for dtype in (np.int8, ml_dtypes.float8_e4m3fn)}
    layers |= {"comfy nvfp4": comfy_nvfp4(), "comfy mxfp8": comfy_mxfp8(), "comfy awq": comfy_awq()}
    layers |= {f"comfy {form}": comfy_turned(form) for form in ("int8_tensorwise", "convrot_w4a4")}
    layers |= {"sparse": sparse(True), "sparse 2 of 4": sparse(False), "sparse fp8": sparse(False, scaled=True)}
    layers |= {"modelopt": modelopt(), "modelopt plain": modelopt(smoothed=False), "modelopt blocks": modelopt_blocks()}
    layers |= {"comfy w4a8": comfy_w4a8(4), "comfy w6a8": comfy_w4a8(6)}
    return layers | {"comfy w4a8 book": comfy_w4a8(4, book=True), "comfy w4a8 correction": comfy_w4a8(4, correction=True)}
