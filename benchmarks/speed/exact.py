"""Speed, memory and resumption of exact comparison: `python -m benchmarks.speed.exact [FOLDER]`.

Speed is told beside two limits, on the same files in the same run: reading both files from end to end, and numpy.corrcoef of each pair of
tensors, which computes one of the figures instead of all; per second, and per second of processor time where others use the machine too.
Memory is the largest resident set of a process of its own. A comparison is killed (SIGKILL) in its middle and run again with the same
journal. Results: benchmarks/results/exact.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy

from benchmarks.common.results import write_result

WIDTH = 2048
LAYERS = (4, 8, 16)  # models of about 134, 268 and 537 MB
CHUNK = 16 << 20


def model(folder: Path, seed: int, layers: int) -> Path:
    """A decoder of bfloat16 noise. Seed 2 is seed 1 with a little noise added, so that spectra of differences are computed too."""
    tensors = {}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes = {f"self_attn.{x}_proj.weight": (WIDTH // 2, WIDTH) for x in "qkv"} | {"self_attn.o_proj.weight": (WIDTH, WIDTH // 2)}
        shapes |= {"mlp.up_proj.weight": (WIDTH, WIDTH), "mlp.down_proj.weight": (WIDTH, WIDTH)}
        for number, (name, shape) in enumerate(shapes.items()):
            values = np.random.default_rng([1 if seed == 2 else seed, layer, number]).standard_normal(shape, np.float32) * 0.02
            if seed == 2:
                values += np.random.default_rng([2, layer, number]).standard_normal(shape, np.float32) * 0.002
            tensors[at + name] = values.astype(ml_dtypes.bfloat16)
        tensors[at + "input_layernorm.weight"] = np.ones(WIDTH, ml_dtypes.bfloat16)
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder


def plain_reading(a: Path, b: Path) -> float:
    """Seconds to read both files from end to end."""
    began = time.perf_counter()
    for side in (a, b):
        with (side / "model.safetensors").open("rb") as file:
            while file.read(CHUNK):
                pass
    return time.perf_counter() - began


def plain_numpy(a: Path, b: Path) -> float:
    """Processor seconds of numpy.corrcoef over all pairs, whole tensors at once."""
    from safetensors import safe_open

    began = time.process_time()
    with safe_open(a / "model.safetensors", "numpy") as one, safe_open(b / "model.safetensors", "numpy") as other:
        for name in one.keys():  # noqa: SIM118 (no mapping)
            if "norm" not in name:
                np.corrcoef(one.get_tensor(name).astype(np.float32).ravel(), other.get_tensor(name).astype(np.float32).ravel())
    return time.process_time() - began


def exact_alone(a: str, b: str) -> None:
    """One exact reading in this process; prints seconds and the largest resident set in MB."""
    from modelkin_indexer.exact.comparison import ExactOptions, read_exact
    from modelkin_indexer.opening import open_source

    one, other = open_source(Path(a)), open_source(Path(b))
    before = resident_peak()
    began, busy = time.perf_counter(), time.process_time()
    read_exact(one, other, ExactOptions())
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "peak_mb": resident_peak(), "imports_mb": before}))


def resident_peak() -> float:
    """MB of this program alone: what the system calls ru_maxrss also counts the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measured(a: Path, b: Path) -> dict[str, Any]:
    """One pair: rates in MB of both files a second."""
    size = sum((side / "model.safetensors").stat().st_size for side in (a, b)) / 1e6
    reading = plain_reading(a, b)
    alone = subprocess.run([sys.executable, __file__, "--alone", str(a), str(b)], capture_output=True, text=True, check=True)
    found = json.loads(alone.stdout)
    reference = plain_numpy(a, b)
    rates = {"exact": found["seconds"], "reading alone": reading}
    busy = {"exact": found["cpu_seconds"], "numpy.corrcoef alone": reference}
    return {
        "megabytes_of_both": round(size),
        "megabytes_per_second": {name: round(size / seconds) for name, seconds in rates.items()},
        "megabytes_per_processor_second": {name: round(size / seconds) for name, seconds in busy.items()},
        "peak_mb": round(found["peak_mb"]),
        "of_these_imports_mb": round(found["imports_mb"]),
    }


def resumed(a: Path, b: Path, folder: Path) -> dict[str, Any]:
    """A comparison that is killed once its journal holds a third of the tensors, and run again; beside one that is left alone."""
    command = [sys.executable, "-m", "modelkin_cli", "compare", str(a), str(b), "--exact", "--level", "probe", "--json"]
    whole = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout)
    journal = folder / "journal"
    lines = len(whole["exact"]) // 3
    process = subprocess.Popen([*command, "--resume", str(journal)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") <= lines):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes().count(b"\n") - 1
    again = json.loads(subprocess.run([*command, "--resume", str(journal)], capture_output=True, text=True, check=True, cwd=folder).stdout)
    return {
        "tensors": len(whole["exact"]),
        "in_the_journal_when_killed": kept,
        "killed": process.returncode == -signal.SIGKILL,
        "same_table": again["exact"] == whole["exact"] and again["exact_summary"] == whole["exact_summary"],
    }


def main(place: str | None) -> None:
    result: dict[str, Any] = {"cores": os.cpu_count(), "pairs": {}}
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        for layers in LAYERS:
            a, near, far = (model(folder / f"{layers}-{seed}", seed, layers) for seed in (1, 2, 3))
            for what, other in (("related, with spectra", near), ("strangers", far)):
                result["pairs"][f"{layers} layers, {what}"] = measured(a, other)
            if layers == LAYERS[0]:
                result["resumption"] = resumed(a, near, folder)
    peaks = [pair["peak_mb"] for pair in result["pairs"].values()]
    result["largest_peak_over_smallest"] = round(max(peaks) / min(peaks), 2)
    write_result("exact", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        exact_alone(*sys.argv[2:4])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
