"""Reads the same weights from every container, level full and probe, and large files of each: throughput beside safetensors, peak memory.

    python -m benchmarks.speed.containers [--megabytes 400] [--gigabytes 4] [--only GGUF,legacy] [--name containers]

Each reading is a process of its own; its CPU time (user and system) counts from after the imports, its memory from the beginning.
Throughput is in MB of decoded float16 weights per CPU second, so that containers compare. Large files are sparse files of zeros:
a gigabyte of them costs no disk, and the same work. Writes benchmarks/results/NAME.json; exits 1 if a limit is missed.
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
from typing import Any

import gguf

from benchmarks.common.container_files import (
    FOLDERS,
    Write,
    gguf_writer,
    sparse_gguf,
    sparse_safetensors,
    weights,
    write_ct2,
    write_deflated,
    write_distributed,
    write_flax,
    write_keras,
    write_keras_chunks,
    write_legacy,
    write_nemo,
    write_npz,
    write_onnx,
    write_onnx_outside,
    write_openvino,
    write_paddle,
    write_safetensors,
    write_torch,
    write_whisper,
    zeros,
)
from benchmarks.common.results import write_result

LARGE_MB = 1536  # what reading a large file may take
TIMEOUT = 3600
GGUF_TYPES = ("F16", "Q8_0", "Q4_0", "Q5_1", "MXFP4", "TQ1_0")
SMALL: dict[str, tuple[str, Write]] = {
    "safetensors": (".safetensors", write_safetensors),
    "torch zip": (".pt", write_torch),
    "torch legacy": (".bin", write_legacy),
    "npz": (".npz", write_npz),
    "npz deflated": (".npz", write_deflated),
    **{
        f"GGUF {kind}": (".gguf", gguf_writer(gguf.GGMLQuantizationType[kind]))
        for kind in ("F16", "Q8_0", "Q4_0", "Q5_1", "MXFP4", "TQ1_0")
    },
    "torch.distributed": (".distcp", write_distributed),
    "NeMo": (".nemo", write_nemo),
    "whisper.cpp": (".bin", write_whisper),
    "Flax": (".msgpack", write_flax),
    "Paddle": (".pdparams", write_paddle),
    "OpenVINO": (".xml", write_openvino),
    "Keras": (".weights.h5", write_keras),
    "Keras gzip": (".weights.h5", write_keras_chunks),
    "ONNX": (".onnx", write_onnx),
    "ONNX, numbers beside": (".onnx", write_onnx_outside),
    "CTranslate2": (".bin", write_ct2),
    **{f"{name}, a folder in float32": ("", write) for name, write in FOLDERS.items()},
}
LARGE: dict[str, tuple[str, Write]] = {
    "safetensors": (".safetensors", sparse_safetensors),
    "torch zip": (".pt", write_torch),
    "torch legacy": (".bin", write_legacy),
    "npz": (".npz", write_npz),
    "GGUF Q8_0": (".gguf", sparse_gguf),
}
READ = """
import json, sys, time
from pathlib import Path
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
start = time.process_time()
source = open_source(Path(sys.argv[1]))
fingerprint = fingerprint_source(source, level=sys.argv[2])
seconds = time.process_time() - start
lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count from this benchmark's own peak
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
print(json.dumps({"seconds": seconds, "peak_mb": peak, "read": source.bytes_read, "parameters": fingerprint.about.parameters}))
"""


def reading(path: Path, level: str) -> dict[str, Any]:
    """What one reading cost."""
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), level],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        return {"failed": done.stderr[-500:]}
    found = json.loads(done.stdout)
    folder = path if path.is_dir() else path.parent  # nothing else is in it
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {
        "file_mb": round(size / 1e6, 1),
        "read_mb": round(found["read"] / 1e6, 1),
        "cpu_seconds": round(found["seconds"], 2),
        "mb_per_cpu_second": round(found["parameters"] * 2 / 1e6 / found["seconds"], 1),
        "peak_mb": round(found["peak_mb"]),
    }


def measured(written: dict[str, tuple[str, Write]], tensors: Any, levels: tuple[str, ...], only: list[str], folder: Path) -> dict[str, Any]:
    """All readings of these containers, one file on the disk at a time."""
    found: dict[str, Any] = {}
    for name, (suffix, write) in written.items():
        if only and not any(part in name for part in only):
            continue
        path = folder / f"weights{suffix}"
        write(path, tensors)
        found[name] = {level: reading(path if suffix not in ("", ".distcp") else folder, level) for level in levels}
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        print(name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400, help="size of the weights in float16")
    parser.add_argument("--gigabytes", type=int, default=4, help="size of each large file; 0 leaves them out")
    parser.add_argument("--only", default="", help="parts of containers' names, separated by commas")
    parser.add_argument("--name", default="containers", help="of the results: runs of some containers are kept apart")
    given = parser.parse_args()
    only = [part for part in given.only.split(",") if part]
    with tempfile.TemporaryDirectory() as folder:
        small = measured(SMALL, weights(given.megabytes), ("full", "probe"), only, Path(folder))
        large = measured(LARGE, zeros(given.gigabytes), ("full", "probe"), only, Path(folder)) if given.gigabytes else {}
    failed = [
        f"{name} {level}" for part in (small, large) for name, levels in part.items() for level in levels if "failed" in levels[level]
    ]
    over = [f"{name} {level}" for name, levels in large.items() for level in levels if levels[level].get("peak_mb", 0) > LARGE_MB]
    load = round(os.getloadavg()[0], 1)
    result = {"load": load, "same weights": small, "large files": large, "limit_mb": LARGE_MB, "failed": failed, "over the limit": over}
    write_result(given.name, result)
    print(json.dumps(result, indent=1))
    return 1 if failed or over else 0


if __name__ == "__main__":
    sys.exit(main())
