"""Quantised layers as their formats store them, written number by number; what they hold when decoded beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from msgspec import Struct, field
from safetensors.numpy import save_file

NAME = "model.layers.0.self_attn.q_proj"
OUT, IN = 64, 96
FP4 = (0, 0.5, 1, 1.5, 2, 3, 4, 6)


class Layer(Struct):
    """Stored tensors by the last part of their names after NAME, and the plain weight that they stand for."""

    scheme: str
    kind: str
    stored: dict[str, Any]
    weight: Any
    config: dict[str, Any] = field(default_factory=dict)
    section: str = "quantization_config"  # of config.json
    summed: float = 0.0  # size of the numbers of which each of the weight's is a sum, so that small ones are not exact

    def named(self) -> dict[str, Any]:
        return {f"{NAME}.{last}": np.ascontiguousarray(tensor) for last, tensor in self.stored.items()}

    def write(self, folder: Path) -> Path:
        """The layer as a model's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({**self.named(), "model.norm.weight": np.ones(IN, np.float32)}, folder / "model.safetensors")
        config = {"model_type": "llama", **({self.section: self.config} if self.config else {})}
        (folder / "config.json").write_text(json.dumps(config))
        return folder


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def in_words(numbers: Any, bits: int) -> Any:
    """Each row of numbers as one long bit string, first number lowest, cut into words of 32 bits."""
    rows = []
    for row in numbers.astype(int).tolist():
        stream = sum(number << (index * bits) for index, number in enumerate(row))
        count = -(-len(row) * bits // 32)
        rows.append([stream >> (32 * word) & 0xFFFFFFFF for word in range(count)])
    return np.array(rows, np.uint32).view(np.int32)


def gptq(bits: int, size: int = 32, version: int = 1, order: str = "") -> Layer:
    rng = random(bits)
    codes, groups = rng.integers(0, 2**bits, (OUT, IN)), IN // size
    zeros, scales = rng.integers(1, 2**bits, (OUT, groups)), (rng.random((OUT, groups)) * 0.01 + 0.001).astype(np.float16)
    of_input = np.arange(IN) // size if order != "shuffled" else rng.permutation(np.arange(IN) // size)
    weight = (codes - zeros[:, of_input]) * scales.astype(np.float32)[:, of_input]
    stored = {
        "qweight": in_words(codes, bits).T,
        "qzeros": in_words((zeros - (version == 1)).T, bits),
        "scales": scales.T,
        **({"g_idx": of_input.astype(np.int32)} if order else {}),
    }
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": order == "shuffled"}
    config["checkpoint_format"] = "gptq" if version == 1 else "gptq_v2"
    return Layer("gptq", f"gptq {bits} bits, groups of {size}", stored, weight, config)


def awq(size: int = 32) -> Layer:
    rng = random(11)
    codes, zeros = rng.integers(0, 16, (IN, OUT)), rng.integers(0, 16, (IN // size, OUT))
    scales = (rng.random((IN // size, OUT)) * 0.01 + 0.001).astype(np.float16)
    weight = ((codes - np.repeat(zeros, size, 0)) * np.repeat(scales.astype(np.float32), size, 0)).T

    def packed(numbers: Any) -> Any:
        taken = numbers.reshape(len(numbers), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]].reshape(len(numbers), -1)
        return in_words(taken, 4)

    stored = {"qweight": packed(codes), "qzeros": packed(zeros), "scales": scales}
    return Layer("awq", f"awq 4 bits, groups of {size}", stored, weight, {"quant_method": "awq", "bits": 4, "group_size": size})


def four_bit_codes(kind: str, twice: bool = False, block: int = 64) -> Layer:
    """bitsandbytes; the code book is arbitrary, as it is in the file."""
    rng = random(12)
    codes, code = rng.integers(0, 16, OUT * IN), np.sort(rng.standard_normal(16)).astype(np.float32)
    blocks = -(-OUT * IN // block)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [OUT, IN]}
    if twice:
        steps, book = rng.integers(0, 256, blocks).astype(np.uint8), rng.random(256).astype(np.float32)
        nested = rng.random(-(-blocks // 32)).astype(np.float32)
        largest = book[steps] * np.repeat(nested, 32)[:blocks] + np.float32(0.25)
        state |= {"nested_blocksize": 32, "nested_dtype": "float32", "nested_offset": 0.25}
        sides = {"weight.absmax": steps, "weight.nested_absmax": nested, "weight.nested_quant_map": book}
    else:
        largest = rng.random(blocks).astype(np.float32)
        sides = {"weight.absmax": largest}
    weight = (code[codes] * np.repeat(largest, block)[: OUT * IN]).reshape(OUT, IN)
    stored = {
        "weight": (codes[0::2] << 4 | codes[1::2]).astype(np.uint8)[:, None],
        "weight.quant_map": code,
        f"weight.quant_state.bitsandbytes__{kind}": np.frombuffer(json.dumps(state).encode(), np.uint8),
        **sides,
    }
    words = f"bitsandbytes {kind}" + (", quantised twice" if twice else "")
    return Layer("bitsandbytes", words, stored, weight, {"quant_method": "bitsandbytes", "load_in_4bit": True})


def eight_bit_codes() -> Layer:
    codes, largest = random(13).integers(-127, 128, (OUT, IN)).astype(np.int8), random(14).random(OUT).astype(np.float32)
    stored = {"weight": codes, "SCB": largest, "weight_format": np.array(0, np.uint8)}
    return Layer("scaled", "bitsandbytes int8", stored, codes * (largest[:, None] / 127), {"quant_method": "bitsandbytes"})


def fp8(scales: str, name: str = "weight_scale_inv") -> Layer:
    """`scales`: tensor, rows, blocks (32 x 64: the last is cut short), or powers (of two, one byte each)."""
    rng = random(15)
    codes = rng.standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn)
    height, width = {"tensor": (OUT, IN), "rows": (1, IN), "blocks": (48, 64), "powers": (32, 32)}[scales]
    grid = rng.random((-(-OUT // height), -(-IN // width))).astype(np.float32) + 0.5
    if scales == "powers":
        grid = np.exp2(rng.integers(-8, 3, grid.shape)).astype(ml_dtypes.float8_e8m0fnu)
    spread = np.repeat(np.repeat(grid.astype(np.float32), height, 0), width, 1)[:OUT, :IN]
    words = {"tensor": "one scale a tensor", "rows": "one scale a row"}.get(scales, f"{height}x{width} blocks")
    config = {"quant_method": "fp8", **({"weight_block_size": [height, width]} if scales in ("blocks", "powers") else {})}
    stored = {"weight": codes, name: grid[0, 0] if scales == "tensor" else grid, "input_scale": np.ones(1, np.float32)}
    return Layer("scaled", f"fp8 e4m3, {words}", stored, codes.astype(np.float32) * spread, config)


def packed_integers(bits: int, size: int = 32, zero: bool = False, dense: bool = True) -> Layer:
    """compressed-tensors; not `dense`: as its versions before 0.17 packed numbers that do not divide a word."""
    rng = random(16 + bits)
    codes, groups = rng.integers(0, 2**bits, (OUT, IN)), IN // size
    zeros, scales = rng.integers(0, 2**bits, (OUT, groups)), rng.random((OUT, groups)).astype(np.float32)
    offset = 2 ** (bits - 1)
    spread = np.repeat(zeros - offset, size, 1) if zero else 0
    weight = (codes - offset - spread) * np.repeat(scales, size, 1)

    def packed(numbers: Any) -> Any:
        if dense:
            return in_words(numbers, bits)
        count = 32 // bits
        filled = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % count))).reshape(len(numbers), -1, count)
        return np.concatenate([in_words(filled[:, word], bits) for word in range(filled.shape[1])], axis=1)

    stored = {"weight_packed": packed(codes), "weight_scale": scales, "weight_shape": np.array([OUT, IN], np.int64)}
    if zero:
        stored["weight_zero_point"] = packed(zeros.T).T
    return Layer("compressed", f"int{bits}, groups of {size}", stored, weight, {"quant_method": "compressed-tensors"})


def scaled_integers(zero: bool = False) -> Layer:
    rng = random(30)
    codes, scales = rng.integers(-128, 128, (OUT, IN)).astype(np.int8), rng.random((OUT, 1)).astype(np.float32)
    zeros = rng.integers(-5, 6, (OUT, 1)).astype(np.int8)
    stored = {"weight": codes, "weight_scale": scales, **({"weight_zero_point": zeros} if zero else {})}
    weight = (codes.astype(np.float32) - (zeros if zero else 0)) * scales
    return Layer("scaled", "int8, one scale a row", stored, weight, {"quant_method": "compressed-tensors"})


def fp4(kind: str, last: str = "weight_packed") -> Layer:
    rng = random(31)
    codes, size = rng.integers(0, 16, (OUT, IN)), {"mxfp4": 32, "nvfp4": 16}[kind]
    values = fp4_values(codes)
    stored: dict[str, Any] = {last: (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)}
    if kind == "mxfp4":
        stored["weight_scale"] = rng.integers(120, 130, (OUT, IN // size)).astype(np.uint8)
        scales = np.exp2(stored["weight_scale"].astype(np.float32) - 127)
    else:
        stored["weight_scale"] = (rng.random((OUT, IN // size)) * 400).astype(ml_dtypes.float8_e4m3fn)
        scales = stored["weight_scale"].astype(np.float32)
        overall = np.array([128.0 if last == "weight_packed" else 1 / 128], np.float32)
        stored["weight_global_scale" if last == "weight_packed" else "weight_scale_2"] = overall
        scales = scales / 128
    return Layer("fp4", kind, stored, values * np.repeat(scales, size, 1))


def hqq(bits: int, axis: int, size: int = 32) -> Layer:
    rng = random(40 + bits)
    groups = OUT * IN // size
    height, width = (groups, size) if axis else (size, groups)
    codes = rng.integers(0, 2**bits, (height, width))
    scales, zeros = (rng.random((groups, 1) if axis else (1, groups)).astype(np.float32) for _ in range(2))
    count = 10 if bits == 3 else 8 // bits
    filled = np.pad(codes, ((0, -height % count), (0, 0))).reshape(count, -1, width)
    packed = sum(part << bits * (count - 1 - number) for number, part in enumerate(filled))
    stored = {
        "W_q": packed.astype(np.int32 if bits == 3 else np.uint8),
        "scale": scales,
        "zero": zeros,
        "shape": np.array([OUT, IN], np.int64),
        **{key: np.array(value, np.int32) for key, value in (("nbits", bits), ("group_size", size), ("axis", axis))},
        "packing": np.frombuffer(b"4bit_u8", np.uint8),
    }
    return Layer("hqq", f"hqq {bits} bits, groups of {size}", stored, ((codes - zeros) * scales).reshape(OUT, IN))


def one_byte() -> Layer:
    """As small models of many publishers: `weight.qweight` and `weight.scale`."""
    layer = scaled_integers()
    stored = {"weight.qweight": layer.stored["weight"], "weight.scale": layer.stored["weight_scale"]}
    return Layer("scaled", layer.kind, stored, layer.weight)


def mlx(bits: int, size: int = 32) -> Layer:
    """Affine; codes reach from one end to the other in each group, as MLX lays them."""
    rng = random(60 + bits)
    codes, groups = rng.binomial(2**bits - 1, 0.4, (OUT, IN // size, size)), IN // size
    codes[..., 0], codes[..., 1] = 0, 2**bits - 1
    codes = rng.permuted(codes, axis=-1)
    scales, biases = (rng.standard_normal((OUT, groups)).astype(np.float16) for _ in range(2))
    weight = codes * scales.astype(np.float32)[..., None] + biases.astype(np.float32)[..., None]
    stored = {"weight": in_words(codes.reshape(OUT, IN), bits).view(np.uint32), "scales": scales, "biases": biases}
    settings = {"group_size": size, "bits": bits, "mode": "affine"}
    return Layer("mlx", f"MLX, {bits} bits, groups of {size}", stored, weight.reshape(OUT, IN), settings, "quantization")


def mlx_floats(mode: str, overall: bool = False) -> Layer:
    rng = random(70)
    size, bits = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}[mode]
    codes = rng.integers(0, 2**bits, (OUT, IN))
    codes[codes % 128 == 127] = 0  # NaN of E4M3
    values = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32) if bits == 8 else fp4_values(codes)
    scales = rng.integers(1, 120, (OUT, IN // size)).astype(np.uint8)
    plain = scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32) if mode == "nvfp4" else np.exp2(scales.astype(np.float32) - 127)
    stored: dict[str, Any] = {"weight": in_words(codes, bits).view(np.uint32), "scales": scales}
    if overall:
        stored["global_scale"] = np.array([3.5], np.float32)
        plain = plain * np.float32(3.5 / 2688)
    settings = {"group_size": size, "bits": bits, "mode": mode}
    return Layer("mlx", f"MLX {mode}", stored, values * np.repeat(plain, size, 1), settings, "quantization")


def fp4_values(codes: Any) -> Any:
    return np.array([*FP4, *(-value for value in FP4)], np.float32)[codes]


def every_layer() -> dict[str, Layer]:
    """One of each form."""
    layers = {f"gptq {bits}": gptq(bits) for bits in (2, 3, 4, 8)}
    layers |= {"gptq v2": gptq(4, version=2), "gptq g_idx": gptq(4, order="plain"), "gptq act order": gptq(3, order="shuffled")}
    layers |= {"awq": awq(), "int8 codes": eight_bit_codes(), "one byte": one_byte()}
    layers |= {f"{kind} {twice}": four_bit_codes(kind, twice) for kind in ("nf4", "fp4") for twice in (False, True)}
    layers |= {f"fp8 {scales}": fp8(scales) for scales in ("tensor", "rows", "blocks", "powers")}
    layers |= {"fp8 comfy": fp8("tensor", "scale_weight"), "int8": scaled_integers(), "int8 zero": scaled_integers(zero=True)}
    layers |= {f"packed {bits} {zero}": packed_integers(bits, zero=zero) for bits in (2, 3, 4, 8) for zero in (False, True)}
    layers |= {"packed in words": packed_integers(3, zero=True, dense=False)}
    layers |= {"mxfp4": fp4("mxfp4"), "nvfp4": fp4("nvfp4"), "nvfp4 modelopt": fp4("nvfp4", "weight")}
    layers |= {f"mlx {bits}": mlx(bits) for bits in range(1, 9)} | {f"mlx {mode}": mlx_floats(mode) for mode in ("mxfp4", "mxfp8", "nvfp4")}
    layers |= {"mlx overall": mlx_floats("nvfp4", overall=True)}
    return layers | {f"hqq {bits} {axis}": hqq(bits, axis) for bits in (8, 4, 3, 2, 1) for axis in (0, 1)}
