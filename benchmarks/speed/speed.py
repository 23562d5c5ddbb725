"""Local speed and memory on one large file, beside SHA-256, a plain read, and a peer where one is installed.

    python -m benchmarks.speed.speed [--gigabytes 2] [--peer PATH_TO_modeldna] [--work DIR] [--repeat 3]

Makes a bf16 Llama-shaped safetensors file, then runs each contender as a process of its own, in turn, several times: wall and CPU seconds
(user + system) and peak memory of each, the best of the repeats. Writes results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from benchmarks.common.results import write_result
from modelkin_indexer.results import fingerprint

READ = """
import sys
buffer = bytearray(8 << 20)
with open(sys.argv[1], "rb", buffering=0) as file:
    while file.readinto(buffer):
        pass
"""
SHA256 = """
import hashlib, sys
buffer, digest = bytearray(8 << 20), hashlib.sha256()
with open(sys.argv[1], "rb", buffering=0) as file:
    while count := file.readinto(buffer):
        digest.update(memoryview(buffer)[:count])
"""
USAGE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
ran = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([ran.returncode, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
HIDDEN, NEURONS, HEADS, KEY_VALUE, TOKENS = 2048, 5632, 32, 256, 32000


def make_model(folder: Path, gigabytes: float) -> Path:
    """A folder with config.json and a bf16 model.safetensors of about that size."""
    layer = 2 * HIDDEN * HIDDEN + 2 * KEY_VALUE * HIDDEN + 3 * HIDDEN * NEURONS + 2 * HIDDEN
    layers = max(1, round((gigabytes * 1e9 / 2 - 2 * TOKENS * HIDDEN) / layer))
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "lm_head.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for number in range(layers):
        at = f"model.layers.{number}."
        shapes |= {f"{at}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (KEY_VALUE if name in "kv" else HIDDEN, HIDDEN) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (NEURONS, HIDDEN) for name in ("gate", "up")}
        shapes[at + "mlp.down_proj.weight"] = (HIDDEN, NEURONS)
    header, offset = {}, 0
    for name, shape in sorted(shapes.items()):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in sorted(shapes.items()):
            values = rng.standard_normal(int(np.prod(shape)), dtype=np.float32) * 0.02 + (1 if len(shape) == 1 else 0)
            file.write(values.astype(ml_dtypes.bfloat16).tobytes())
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": layers}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": KEY_VALUE // 64, "intermediate_size": NEURONS, "vocab_size": TOKENS}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def measure(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one process, without those of the one that measures it."""
    ran = subprocess.run([sys.executable, "-c", USAGE, *command], capture_output=True, text=True, env=environment)
    status, wall, cpu, memory = json.loads(ran.stdout.splitlines()[-1])
    if status:
        raise SystemExit(f"{command}: exit code {status}\n{ran.stderr}")
    return {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3), "peak_mb": round(memory, 1)}


def contenders(folder: Path, work: Path, peer: str | None) -> dict[str, list[str]]:
    """What is run, by name. The file is in the page cache for all of them."""
    modelkin = str(Path(sys.executable).parent / "modelkin")
    file = str(folder / "model.safetensors")
    found = {
        "read (physical limit)": [sys.executable, "-c", READ, file],
        "sha256, one thread": [sys.executable, "-c", SHA256, file],
        "modelkin full": [modelkin, "fingerprint", str(folder), "-o", str(work / "full.modelkin"), "--level", "full"],
        "modelkin full, one thread": [
            modelkin,
            "fingerprint",
            str(folder),
            "-o",
            str(work / "one.modelkin"),
            "--level",
            "full",
            "--threads",
            "1",
        ],
        "modelkin probe": [modelkin, "fingerprint", str(folder), "-o", str(work / "probe.modelkin"), "--level", "probe"],
    }
    if peer:
        found["modelDNA fingerprint"] = [peer, "fingerprint", str(folder), "-o", str(work / "dna.json")]
        found["modelDNA fingerprint --full"] = [peer, "fingerprint", str(folder), "--full", "-o", str(work / "dna-full.json")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--peer", help="the command of modelDNA 0.1.0, in an environment of its own")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="modelkin-speed-"))
    folder = work / "model"
    if not (folder / "model.safetensors").exists():
        make_model(folder, args.gigabytes)
    size = (folder / "model.safetensors").stat().st_size
    environment = dict(os.environ)
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.repeat):
        for name, command in contenders(folder, work, args.peer).items():
            runs.setdefault(name, []).append(measure(command, environment))
    best = {
        name: min(found, key=lambda run: run["wall_s"]) | {"all_wall_s": [run["wall_s"] for run in found]} for name, found in runs.items()
    }
    for run in best.values():
        run["gb_per_s"] = round(size / 1e9 / run["wall_s"], 2)  # type: ignore[assignment]
    probe = fingerprint.load(work / "probe.modelkin").about
    result = {
        "file_bytes": size,
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "runs": best,
        "full_against_sha256": round(best["sha256, one thread"]["wall_s"] / best["modelkin full"]["wall_s"], 2),
        "probe_share_read": round(probe.bytes_read / size, 5),
        "fingerprint_bytes": {level: (work / f"{level}.modelkin").stat().st_size for level in ("probe", "full")},
    }
    print(json.dumps(result, indent=1))
    write_result("speed", result)
    if not args.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
