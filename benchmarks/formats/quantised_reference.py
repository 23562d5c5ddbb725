"""Holds the decoding of quantised weights against the libraries that write them: each encodes random matrices in its own way on CPU and
decodes them again; what modelkin reads from the same file must be the same numbers.

    pip install bitsandbytes compressed-tensors optimum-quanto transformers accelerate torchao auto-round gguf mlx mlx-cpu
    # HQQ and GPTQModel: their source distributions, unpacked (HQQ's on PYTHONPATH for --ragged)
    python -m benchmarks.formats.quantised_reference [--hqq FOLDER] [--gptqmodel FOLDER] [--ragged]

`--ragged`: rows and columns that are no multiples of blocks, groups or packs, into quantised_ragged.json (quantised_ragged.py).
A library that is not installed is left out and named. Writes benchmarks/results/quantised_reference.json; exits 1 on a difference.
`largest_difference` is relative to the largest number of the matrix. Libraries decode in half precision where they compute in it, so up to
two roundings of that type are allowed; where they decode in float32, one part in a million.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import modelkin
from benchmarks.common.results import write_result
from benchmarks.formats.quantised_cases import COLUMNS, FLOAT16, MODULE, ROWS, Case, weight
from benchmarks.formats.quantised_ragged import RAGGED, compressed
from modelkin_indexer.errors import SourceError
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.stored import values

LEAST = 0.999  # correlation with the library's own decoding, and coverage


def bitsandbytes_cases() -> Iterator[Case]:
    import bitsandbytes.functional as bnb

    w = weight()
    for kind in ("nf4", "fp4"):
        for twice in (False, True):
            for block in (64, 128):
                packed, state = bnb.quantize_4bit(w, blocksize=block, compress_statistics=twice, quant_type=kind)
                stored = {f"{MODULE}.weight.{last}": tensor for last, tensor in state.as_dict(packed=True).items()}
                name = f"{kind}, blocks of {block}" + (", quantised twice" if twice else "")
                yield Case("bitsandbytes", name, {f"{MODULE}.weight": packed, **stored}, bnb.dequantize_4bit(packed, state))
    codes, scales, _ = bnb.int8_vectorwise_quant(w.half())
    stored = {f"{MODULE}.weight": codes, f"{MODULE}.SCB": scales, f"{MODULE}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    yield Case("bitsandbytes", "int8", stored, bnb.int8_vectorwise_dequant(codes, scales))


def compressed_cases() -> Iterator[Case]:
    def case(form: str, name: str, arguments: dict[str, Any], block: tuple[int, int]) -> Case:
        return compressed(form, name, arguments, block, weight())

    for bits in range(2, 9):
        for symmetric in (True, False):
            arguments = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 64}
            yield case("pack-quantized", f"int{bits}{'' if symmetric else ' asymmetric'}, groups", arguments, (1, 64))
    yield case("pack-quantized", "int4, rows", {"num_bits": 4, "type": "int", "strategy": "channel"}, (1, COLUMNS))
    yield case("int-quantized", "int8, rows", {"num_bits": 8, "type": "int", "strategy": "channel"}, (1, COLUMNS))
    asymmetric = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": False}
    yield case("int-quantized", "int8 asymmetric, rows", asymmetric, (1, COLUMNS))
    yield case("float-quantized", "fp8, tensor", {"num_bits": 8, "type": "float", "strategy": "tensor"}, (ROWS, COLUMNS))
    yield case("float-quantized", "fp8, rows", {"num_bits": 8, "type": "float", "strategy": "channel"}, (1, COLUMNS))
    blocks = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [32, 128]}
    yield case("float-quantized", "fp8, 32x128 blocks", blocks, (32, 128))
    nvfp4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": torch.float8_e4m3fn}
    yield case("nvfp4-pack-quantized", "groups of 16", nvfp4, (1, 16))
    for bits, form in ((4, "mxfp4-pack-quantized"), (6, "mxfp6-pack-quantized"), (8, "mxfp8-quantized")):
        scaled = {"num_bits": bits, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}
        yield case(form, "groups of 32", scaled, (1, 32))


def auto_round_cases() -> Iterator[Case]:
    from auto_round_extension.torch import qlinear_torch, qlinear_torch_zp

    for version, module in ((1, qlinear_torch_zp), (2, qlinear_torch)):
        for bits in (2, 3, 4, 8):
            layer = module.QuantLinear(bits, 64, COLUMNS, ROWS, bias=False, g_idx=True)
            layer.device = "cpu"  # version 2 of its packing asks for one and never sets it
            linear = torch.nn.Linear(COLUMNS, ROWS, bias=False)
            linear.weight.data = weight()
            tiles = weight().reshape(ROWS, -1, 64)
            low, top = tiles.amin(-1).clamp(max=0), tiles.amax(-1).clamp(min=0)
            scales = ((top - low) / (2**bits - 1)).half().float()
            zeros = (-low / scales).round().clamp(1, 2**bits - 1)
            layer.pack(linear, scales, zeros, None, device="cpu")
            layer.post_init()
            with torch.no_grad():
                decoded = layer(torch.eye(COLUMNS)).T
            stored = {f"{MODULE}.{last}": getattr(layer, last) for last in ("qweight", "qzeros", "scales", "g_idx")}
            config = {"quant_method": "gptq", "bits": bits, "group_size": 64, "checkpoint_format": "gptq" if version == 1 else "gptq_v2"}
            yield Case("auto-round", f"GPTQ version {version}, {bits} bits", stored, decoded, config, FLOAT16)


def transformers_cases() -> Iterator[Case]:
    from types import SimpleNamespace

    from transformers.integrations import finegrained_fp8, mxfp4

    for scale_format in ("float", "ue8m0"):
        quantizer = SimpleNamespace(quantization_config=SimpleNamespace(weight_block_size=(32, 128), scale_fmt=scale_format))
        stored = finegrained_fp8.Fp8Quantize(quantizer)._quantize_one(f"{MODULE}.weight", weight())
        scale = stored[f"{MODULE}.weight_scale_inv"]
        decoded = finegrained_fp8.Fp8Dequantize(quantizer)._dequantize_one(stored[f"{MODULE}.weight"], scale, torch.float32)
        config = {"quant_method": "fp8", "weight_block_size": [32, 128]}
        yield Case("transformers", f"fp8 blocks, {scale_format} scales", stored, decoded, config)
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, ROWS, COLUMNS // 32, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(110, 130, (3, ROWS, COLUMNS // 32), dtype=torch.uint8, generator=generator)
    name = "model.layers.0.mlp.experts.gate_up_proj"
    decoded = mxfp4._convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).transpose(1, 2)
    yield Case("transformers", "MXFP4 of gpt-oss", {f"{name}_blocks": blocks, f"{name}_scales": scales}, decoded, tensor=name)


def torchao_cases() -> Iterator[Case]:
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup, quantize_

    configs = {
        "int8, rows": Int8WeightOnlyConfig(),
        "float8": Float8WeightOnlyConfig(),
        "intx 4 bits, groups": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(64)),
    }
    for name, config in configs.items():
        holder = torch.nn.Sequential(torch.nn.Linear(COLUMNS, ROWS, bias=False))
        holder[0].weight.data = weight()
        quantize_(holder, config)
        stored, _ = flatten_tensor_state_dict({f"{MODULE}.weight": holder[0].weight.data})
        yield Case("torchao", name, stored, holder[0].weight.dequantize().float(), {"quant_method": "torchao"})


def hqq_cases(folder: Path) -> Iterator[Case]:
    sys.path.insert(0, str(folder))
    from hqq.core.quantize import Quantizer
    from hqq.core.utils import encode_safetensor_type

    for bits in (8, 4, 3, 2, 1):
        for axis in (0, 1):
            packed, meta = Quantizer.quantize(weight(), nbits=bits, group_size=64, axis=axis, optimize=False, device="cpu")
            decoded = Quantizer.dequantize(packed, {**meta, "compute_dtype": torch.float32})
            stored = {f"{MODULE}.{key}": encode_safetensor_type(value) for key, value in meta.items()}
            yield Case("hqq", f"{bits} bits, axis {axis}", {f"{MODULE}.W_q": packed, **stored}, decoded)


def awq_cases(folder: Path) -> Iterator[Case]:
    """GPTQModel's packing of AWQ layers; the codes are made here, since its quantiser needs a model and texts."""
    path = folder / "gptqmodel" / "quantization" / "awq" / "utils" / "packing_utils.py"
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    assert spec is not None
    assert spec.loader is not None
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (COLUMNS, ROWS), generator=generator)
    zeros = torch.randint(0, 16, (COLUMNS // 64, ROWS), generator=generator)
    scales = (torch.rand(COLUMNS // 64, ROWS, generator=generator) * 0.01 + 0.001).half()
    qweight, qzeros = packing.pack_awq(codes, zeros, 4)
    decoded = (codes - zeros.repeat_interleave(64, 0)) * scales.float().repeat_interleave(64, 0)
    stored = {f"{MODULE}.qweight": qweight, f"{MODULE}.qzeros": qzeros, f"{MODULE}.scales": scales}
    yield Case("gptqmodel", "AWQ 4 bits", stored, decoded.T, {"quant_method": "awq", "bits": 4, "group_size": 64})


def outcome(case: Case, folder: Path) -> dict[str, Any]:
    """One case as a line of the results."""
    target = folder / "model.safetensors"
    if case.write is not None:
        case.write(folder)
    else:
        save_file({name: tensor.contiguous().clone() for name, tensor in case.stored.items()}, target, metadata=case.metadata or None)
    (folder / "config.json").write_text(json.dumps(case.beside | ({"quantization_config": case.config} if case.config else {})))
    line: dict[str, Any] = {"library": case.library, "case": case.name}
    try:
        source = open_source(folder)
        found = read(source, case.tensor)
        beside = case.tensor.removesuffix("weight") + "bias"
        line |= {"said": source.quantization, "left": sorted(set(source.tensors) - {case.tensor, beside})}
        source.close()
    except (SourceError, KeyError) as error:
        return line | {"error": f"{type(error).__name__}: {error}", "passed": False}
    wanted = case.decoded.detach().float().numpy()
    if found.shape != wanted.shape:
        return line | {"error": f"shape {found.shape} for {wanted.shape}", "passed": False}
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    r = float(np.corrcoef(found.ravel(), wanted.ravel())[0, 1])
    coverage = modelkin.read(folder, level="full").fingerprint.about.coverage
    line |= {"r": round(r, 6), "coverage": coverage}
    passed = difference <= case.tolerance and not line["left"] and r >= LEAST and coverage >= LEAST
    return line | {"largest_difference": difference, "allowed": case.tolerance, "passed": passed}


def read(source: Any, name: str) -> np.ndarray:
    info = source.tensors[name]
    found = values.decode(info.dtype, source.read(name, 0, info.nbytes))
    return found.reshape(info.shape[::-1]).T if info.transposed else found.reshape(info.shape)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hqq", type=Path, help="folder of HQQ's unpacked source distribution")
    parser.add_argument("--gptqmodel", type=Path, help="folder of GPTQModel's unpacked source distribution")
    parser.add_argument("--ragged", action="store_true", help="the cases of ragged sizes instead")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    makers: dict[str, Callable[[], Iterator[Case]]] = {
        "bitsandbytes": bitsandbytes_cases,
        "compressed-tensors": compressed_cases,
        "auto-round": auto_round_cases,
        "transformers": transformers_cases,
        "torchao": torchao_cases,
    }
    if options.hqq:
        makers["hqq"] = lambda: hqq_cases(options.hqq)
    if options.gptqmodel:
        makers["gptqmodel"] = lambda: awq_cases(options.gptqmodel)
    if options.ragged:
        makers = RAGGED
    lines, left_out = [], {}
    for library, maker in makers.items():
        try:
            for case in maker():
                with tempfile.TemporaryDirectory() as folder:
                    lines.append(outcome(case, Path(folder)))
        except ImportError as error:
            left_out[library] = str(error)
    for line in lines:
        print("ok  " if line["passed"] else "BAD ", line)
    versions = {library: version(library) for library in makers}
    failed = sum(not line["passed"] for line in lines)
    result = {"versions": versions, "left_out": left_out, "cases": lines, "failed": failed}
    if options.ragged:
        write_result("quantised_ragged", result)
    else:
        write_result("quantised_reference", result)
    print(f"{len(lines)} cases, {failed} differ; left out: {left_out or 'none'}")
    return 1 if failed else 0


def version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
