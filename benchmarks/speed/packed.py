"""Level full of packed weights, as numbers decoded a second of processor time, beside plain bfloat16 and an earlier build.

    python -m benchmarks.speed.packed [--before PYTHON] [--only AWQ,GPTQ]

Each form holds layers of one decoder (width 2048, 5632 neurons) with codes drawn at random, as the libraries store them. Each reading is a
process of its own, the builds in turn; the quickest of three counts. PYTHON belongs to an environment that holds an earlier build.
Writes benchmarks/results/packed.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import safetensors.numpy

from benchmarks.common.results import write_result

WIDTH, NEURONS, LAYERS = 2048, 5632, 2
TURNS = 3
SIZE = 128  # numbers in a group
Tensors = dict[str, Any]
READ = """
import json, sys, time
from pathlib import Path
try:
    from modelkin_indexer.fingerprinting.indexing import fingerprint_source
    from modelkin_indexer.opening import open_source
except ImportError:  # builds before the folders of today
    from modelkin_indexer.indexing import fingerprint_source
    from modelkin_indexer.sources import open_source
source = open_source(Path(sys.argv[1]))
began = time.process_time()
found = fingerprint_source(source, level="full")
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "numbers": found.about.parameters, "coverage": found.about.coverage}))
"""


def shapes() -> Iterator[tuple[str, int, int]]:
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        yield from ((f"{at}self_attn.{x}_proj", WIDTH, WIDTH) for x in "qkvo")
        yield from ((f"{at}mlp.{x}_proj", NEURONS, WIDTH) for x in ("gate", "up"))
        yield f"{at}mlp.down_proj", WIDTH, NEURONS


def words(random: np.random.Generator, *shape: int) -> Any:
    return random.integers(-(1 << 31), 1 << 31, shape, np.int64).astype(np.int32)


def scales(random: np.random.Generator, *shape: int) -> Any:
    return random.uniform(0.001, 0.004, shape).astype(np.float16)


def bf16(random: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    return {f"{name}.weight": (0.02 * random.standard_normal((rows, columns), np.float32)).astype(ml_dtypes.bfloat16)}


def awq(random: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    side = {f"{name}.qzeros": words(random, columns // SIZE, rows // 8), f"{name}.scales": scales(random, columns // SIZE, rows)}
    return side | {f"{name}.qweight": words(random, columns, rows // 8)}


def gptq(random: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    side = {f"{name}.qzeros": words(random, columns // SIZE, rows // 8), f"{name}.scales": scales(random, columns // SIZE, rows)}
    order = {f"{name}.g_idx": (np.arange(columns) // SIZE).astype(np.int32)}
    return side | order | {f"{name}.qweight": words(random, columns // 8, rows)}


def fp8(random: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    values = random.standard_normal((rows, columns), np.float32).astype(ml_dtypes.float8_e4m3fn)
    return {f"{name}.weight": values, f"{name}.weight_scale_inv": scales(random, rows // SIZE, columns // SIZE).astype(np.float32)}


def nf4(random: np.random.Generator, name: str, rows: int, columns: int) -> Tensors:
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [rows, columns]}
    side = {
        f"{name}.weight.absmax": random.uniform(0.01, 0.1, rows * columns // 64).astype(np.float32),
        f"{name}.weight.quant_map": np.linspace(-1, 1, 16).astype(np.float32),
        f"{name}.weight.quant_state.bitsandbytes__nf4": np.frombuffer(json.dumps(state).encode(), np.uint8),
    }
    return side | {f"{name}.weight": random.integers(0, 256, (rows * columns // 2, 1), np.uint8)}


Maker = Callable[[np.random.Generator, str, int, int], Tensors]
PACKED: dict[str, tuple[Maker, dict[str, Any]]] = {
    "bf16": (bf16, {}),
    "AWQ": (awq, {"quant_method": "awq", "bits": 4, "group_size": SIZE, "version": "gemm"}),
    "GPTQ": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": SIZE}),
    "FP8": (fp8, {"quant_method": "fp8", "weight_block_size": [SIZE, SIZE]}),
    "NF4": (nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
}
GGUF = {"Q8_0": (0,), "Q4_K": (0, 2), "Q6_K": (208,)}  # where in a block half precision scales stand


def write_packed(folder: Path, maker: Maker, quantization: dict[str, Any]) -> Path:
    """A folder with a safetensors file and the config that its library writes."""
    random = np.random.default_rng(1)
    tensors = {name: values for shape in shapes() for name, values in maker(random, *shape).items()}
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": WIDTH, "num_attention_heads": 16, "num_hidden_layers": LAYERS}
    (folder / "config.json").write_text(json.dumps(config | ({"quantization_config": quantization} if quantization else {})))
    return folder


def write_gguf(path: Path, kind: str) -> Path:
    """A GGUF file whose blocks are random bytes with sound scales."""
    random, form = np.random.default_rng(1), gguf.GGMLQuantizationType[kind]
    numbers, size = gguf.GGML_QUANT_SIZES[form]
    writer = gguf.GGUFWriter(str(path), "llama")
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    names |= {f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    writer.add_block_count(LAYERS)
    writer.add_head_count(16)
    for name, rows, columns in shapes():
        _, _, layer, rest = name.split(".", 3)
        blocks = random.integers(0, 256, (rows, columns // numbers, size), np.uint8)
        for at in GGUF[kind]:
            blocks[..., at : at + 2] = scales(random, rows, columns // numbers, 1).view(np.uint8)
        writer.add_tensor(f"blk.{layer}.{names[rest]}.weight", blocks.reshape(rows, -1), raw_dtype=form)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    return path


def measured(path: Path, builds: dict[str, str]) -> dict[str, Any]:
    """Decoded numbers as MB of bfloat16 a processor second, by build."""
    runs: dict[str, list[float]] = {name: [] for name in builds}
    told: dict[str, Any] = {}
    for _ in range(TURNS):
        for name, python in builds.items():
            done = subprocess.run([python, "-c", READ, str(path)], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            runs[name].append(found["seconds"])
            told |= {"numbers": found["numbers"], f"coverage, {name}": found["coverage"]}
    told |= {f"MB of bf16 a second, {name}": round(told["numbers"] * 2 / 1e6 / min(seconds)) for name, seconds in runs.items()}
    if len(runs) > 1:
        told["times less"] = round(min(runs["earlier"]) / min(runs["this"]), 2)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="the Python of an environment that holds an earlier build")
    parser.add_argument("--only", default="", help="parts of forms' names, separated by commas")
    given = parser.parse_args()
    builds = {"this": sys.executable} | ({"earlier": given.before} if given.before else {})
    wanted = [name for name in (*PACKED, *GGUF) if not given.only or any(part in name for part in given.only.split(","))]
    result: dict[str, Any] = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (f"{name}.gguf" if name in GGUF else name)
            result[name] = measured(write_gguf(path, name) if name in GGUF else write_packed(path, *PACKED[name]), builds)
        print(name, result[name], flush=True)
    if not given.only:
        write_result("packed", {"forms": result})


if __name__ == "__main__":
    main()
