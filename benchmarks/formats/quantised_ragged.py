"""Cases of ragged sizes for quantised_reference.py: rows and columns that are no multiples of blocks, groups or packs.

What a library refuses to write at a size is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.formats.quantised_cases import BFLOAT16, EXACT, MODULE, REFUSALS, SIZES, Case, weight
from benchmarks.formats.quantised_tiles import comfy_ragged, torchao_tiled


def bitsandbytes_ragged() -> Iterator[Case]:
    import bitsandbytes.functional as bnb

    for rows, columns in SIZES:
        w = weight(rows, columns)
        for kind in ("nf4", "fp4"):
            for twice in (False, True):
                packed, state = bnb.quantize_4bit(w, blocksize=64, compress_statistics=twice, quant_type=kind)
                stored = {f"{MODULE}.weight.{last}": tensor for last, tensor in state.as_dict(packed=True).items()}
                name = f"{kind}{', quantised twice' if twice else ''}, {rows}x{columns}"
                yield Case("bitsandbytes", name, {f"{MODULE}.weight": packed, **stored}, bnb.dequantize_4bit(packed, state))
        codes, scales, _ = bnb.int8_vectorwise_quant(w.half())
        stored = {f"{MODULE}.weight": codes, f"{MODULE}.SCB": scales, f"{MODULE}.weight_format": torch.tensor(0, dtype=torch.uint8)}
        yield Case("bitsandbytes", f"int8, {rows}x{columns}", stored, bnb.int8_vectorwise_dequant(codes, scales))


def torchao_ragged() -> Iterator[Case]:
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_

    configs = {"int8, rows": Int8WeightOnlyConfig(), "float8": Float8WeightOnlyConfig()}
    for bits in (2, 3, 4, 5):
        configs[f"intx {bits} bits, groups"] = IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerGroup(32))
    configs["intx 4 bits, rows"] = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerAxis(0))
    for rows, columns in SIZES:
        for name, config in configs.items():
            holder = torch.nn.Sequential(torch.nn.Linear(columns, rows, bias=False))
            holder[0].weight.data = weight(rows, columns)
            with suppress(*REFUSALS):
                quantize_(holder, config)
                stored, told = flatten_tensor_state_dict({f"{MODULE}.weight": holder[0].weight.data})
                decoded = holder[0].weight.dequantize().float()
                said = {"quant_method": "torchao"}
                yield Case("torchao", f"{name}, {rows}x{columns}", stored, decoded, said, BFLOAT16, metadata=told)


def hqq_ragged() -> Iterator[Case]:
    from hqq.core.quantize import Quantizer
    from hqq.core.utils import encode_safetensor_type

    for rows, columns in SIZES:
        for bits in (8, 4, 3, 2, 1):
            for axis in (0, 1):
                with suppress(*REFUSALS):
                    packed, meta = Quantizer.quantize(
                        weight(rows, columns), nbits=bits, group_size=64, axis=axis, optimize=False, device="cpu"
                    )
                    decoded = Quantizer.dequantize(packed, {**meta, "compute_dtype": torch.float32})
                    stored = {f"{MODULE}.{key}": encode_safetensor_type(value) for key, value in meta.items()}
                    yield Case("hqq", f"{bits} bits, axis {axis}, {rows}x{columns}", {f"{MODULE}.W_q": packed, **stored}, decoded)


def mlx_ragged() -> Iterator[Case]:
    import mlx.core as mx

    modes: list[tuple[str, int, int]] = [("affine", bits, group) for bits, group in ((2, 128), (3, 32), (4, 64), (5, 32), (6, 64), (8, 32))]
    modes += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
    for rows, columns in SIZES:
        for mode, bits, group in modes:
            stated: dict[str, Any] = {"bits": bits, "group_size": group, "mode": mode}
            with suppress(*REFUSALS):
                parts = mx.quantize(mx.array(weight(rows, columns).numpy()), **stated)
                decoded = torch.from_numpy(np.array(mx.dequantize(*parts, **stated).astype(mx.float32)))
                named = {f"{MODULE}.{name}": part for name, part in zip(("weight", "scales", "biases"), parts, strict=False)}
                yield Case("mlx", f"{mode}, {bits} bits, {rows}x{columns}", {}, decoded, stated, BFLOAT16, write=_mlx_file(named))


def _mlx_file(named: dict[str, Any]) -> Callable[[Path], None]:
    import mlx.core as mx

    return lambda folder: mx.save_safetensors(str(folder / "model.safetensors"), named, metadata={"format": "mlx"})


def gguf_ragged() -> Iterator[Case]:
    import gguf

    for rows, columns in SIZES:
        for name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4", "Q1_0"):
            kind = gguf.GGMLQuantizationType[name]
            with suppress(gguf.quants.QuantError, *REFUSALS):
                packed = gguf.quantize(weight(rows, columns).numpy(), kind)
                decoded = torch.from_numpy(gguf.dequantize(packed, kind))
                yield Case("gguf", f"{name}, {rows}x{columns}", {}, decoded, tensor=GGUF_READ, write=_gguf_file(packed, kind))


GGUF_NAME, GGUF_READ = "blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"


def _gguf_file(packed: Any, kind: Any) -> Callable[[Path], None]:
    import gguf

    def write(folder: Path) -> None:
        writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
        writer.add_tensor(GGUF_NAME, packed, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write


def quanto_ragged() -> Iterator[Case]:
    from optimum.quanto import freeze, qfloat8_e4m3fn, qfloat8_e5m2, qint2, qint4, qint8, quantize

    kinds = {"qint8": qint8, "qfloat8": qfloat8_e4m3fn, "qfloat8, e5m2": qfloat8_e5m2, "qint4": qint4, "qint2": qint2}
    for rows, columns in (*SIZES, (129, 160), (20, 288)):
        for name, kind in kinds.items():
            for bias in (True, False):
                holder = torch.nn.Sequential(torch.nn.Linear(columns, rows, bias=bias))
                holder[0].weight.data = weight(rows, columns)
                with suppress(*REFUSALS):
                    quantize(holder, weights=kind)
                    freeze(holder)
                    stored = {f"{MODULE}.{key.removeprefix('0.')}": part for key, part in holder.state_dict().items()}
                    decoded = holder[0].weight.dequantize().float()
                    sized = {"hidden_size": columns, "intermediate_size": rows}  # as the config.json beside it names them
                    called = f"{name}, {rows}x{columns}{', with its bias' if bias else ''}"
                    yield Case("optimum-quanto", called, stored, decoded, {"quant_method": "quanto"}, EXACT, beside={} if bias else sized)


def compressed_ragged() -> Iterator[Case]:
    for rows, columns in SIZES:
        for form, name, arguments, block in _compressed_forms(rows, columns):
            with suppress(*REFUSALS):
                yield compressed(form, f"{name}, {rows}x{columns}", arguments, block, weight(rows, columns))


def _compressed_forms(rows: int, columns: int) -> Iterator[tuple[str, str, dict[str, Any], tuple[int, int]]]:
    for bits in range(2, 9):
        for symmetric in (True, False):
            told = "" if symmetric else " asymmetric"
            arguments = {"num_bits": bits, "type": "int", "symmetric": symmetric}
            yield "pack-quantized", f"int{bits}{told}, rows", {**arguments, "strategy": "channel"}, (1, columns)
            if columns % 8 == 0:
                yield "pack-quantized", f"int{bits}{told}, groups of 8", {**arguments, "strategy": "group", "group_size": 8}, (1, 8)
    yield "int-quantized", "int8, rows", {"num_bits": 8, "type": "int", "strategy": "channel"}, (1, columns)
    yield "float-quantized", "fp8, rows", {"num_bits": 8, "type": "float", "strategy": "channel"}, (1, columns)
    blocks = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 32]}
    yield "float-quantized", "fp8, 32x32 blocks", blocks, (32, 32)
    if columns % 16 == 0:
        nvfp4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}
        yield "nvfp4-pack-quantized", "groups of 16", nvfp4, (1, 16)
    if columns % 32 == 0:
        for bits, form in ((4, "mxfp4-pack-quantized"), (6, "mxfp6-pack-quantized"), (8, "mxfp8-quantized")):
            arguments = {"num_bits": bits, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}
            yield form, "groups of 32", arguments, (1, 32)


def compressed(form: str, name: str, arguments: dict[str, Any], block: tuple[int, int], w: torch.Tensor) -> Case:
    """One weight that compressed-tensors packs, with the scales that it works out for blocks [high, wide]."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    rows, columns = w.shape
    high, wide = block
    padded = torch.nn.functional.pad(w, (0, -columns % wide, 0, -rows % high))
    tiles = padded.reshape(-(-rows // high), high, -(-columns // wide), wide)
    overall = torch.tensor([448 * 6 / float(w.abs().max())]) if args.strategy == "tensor_group" else None
    more = {} if overall is None else {"global_scale": overall}
    scale, zero = calculate_qparams(tiles.amin((1, 3)), tiles.amax((1, 3)), args, **more)
    if args.strategy == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    state = {"weight": w, "weight_scale": scale, "weight_zero_point": zero}
    if overall is not None:
        state["weight_global_scale"] = overall
    compressor = BaseCompressor.get_value_from_registry(form)
    stored = compressor.compress(state, scheme)
    decoded = compressor.decompress(stored, scheme)["weight"]
    weights = {"num_bits": args.num_bits, "block_structure": list(block) if args.strategy == "block" else None}
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"weights": weights}}}
    tolerance = BFLOAT16 if args.scale_dtype is not None else EXACT
    return Case("compressed-tensors", f"{form} {name}", {f"{MODULE}.{k}": v for k, v in stored.items()}, decoded, config, tolerance)


RAGGED: dict[str, Callable[[], Iterator[Case]]] = {
    "bitsandbytes": bitsandbytes_ragged,
    "torchao": lambda: chain(torchao_ragged(), torchao_tiled()),
    "hqq": hqq_ragged,
    "mlx": mlx_ragged,
    "gguf": gguf_ragged,
    "optimum-quanto": quanto_ragged,
    "compressed-tensors": compressed_ragged,
    "comfy-kitchen": comfy_ragged,
}
