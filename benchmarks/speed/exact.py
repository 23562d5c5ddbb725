"""Speed, memory and resumption of exact comparison: `python -m benchmarks.speed.exact [--folder FOLDER] [--before PYTHON]`.

Speed is told beside two limits, on the same files in the same run: reading both files from end to end, and numpy.corrcoef of each pair of
tensors, which computes one of the figures instead of all; per second, and per second of processor time where others use the machine too.
With the Python of an environment that holds an earlier build, that build reads the same pairs in turn, and the largest difference of each
figure is told.
Memory is the largest resident set of a process of its own. A comparison is killed (SIGKILL) in its middle and run again with the same
journal. Results: benchmarks/results/exact.json.
"""

from __future__ import annotations

import argparse
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

SHAPES = ((2048, 4), (2048, 16), (4096, 4))  # width, layers: models of about 134, 537 and 537 MB
CHUNK = 16 << 20
FIGURES = ("pearson", "cosine", "relative_l2", "equal_fraction", "half_unit_fraction", "mean_abs_difference", "wasserstein", "kolmogorov")


def model(folder: Path, seed: int, width: int, layers: int) -> Path:
    """A decoder of bfloat16 noise. Seed 2 is seed 1 with a little noise added, so that spectra of differences are computed too."""
    tensors = {}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes = {f"self_attn.{x}_proj.weight": (width // 2, width) for x in "qkv"} | {"self_attn.o_proj.weight": (width, width // 2)}
        shapes |= {"mlp.up_proj.weight": (width, width), "mlp.down_proj.weight": (width, width)}
        for number, (name, shape) in enumerate(shapes.items()):
            values = np.random.default_rng([1 if seed == 2 else seed, layer, number]).standard_normal(shape, np.float32) * 0.02
            if seed == 2:
                values += np.random.default_rng([2, layer, number]).standard_normal(shape, np.float32) * 0.002
            tensors[at + name] = values.astype(ml_dtypes.bfloat16)
        tensors[at + "input_layernorm.weight"] = np.ones(width, ml_dtypes.bfloat16)
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
    """One exact reading in this process, by whichever build it has; prints seconds, the largest resident set in MB, and the figures."""
    try:
        from modelkin_indexer.exact.comparison import ExactOptions, read_exact
        from modelkin_indexer.opening import open_source
    except ImportError:  # builds before the folders of today
        from modelkin_indexer.exact import ExactOptions, read_exact  # type: ignore[attr-defined, no-redef]
        from modelkin_indexer.sources import open_source  # type: ignore[attr-defined, no-redef]

    one, other = open_source(Path(a)), open_source(Path(b))
    before = resident_peak()
    began, busy = time.perf_counter(), time.process_time()
    pairs = read_exact(one, other, ExactOptions()).pairs
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    figures = [[getattr(pair, field) for field in FIGURES] for pair in pairs]
    print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "peak_mb": resident_peak(), "imports_mb": before, "figures": figures}))


def resident_peak() -> float:
    """MB of this program alone: what the system calls ru_maxrss also counts the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def read_by(python: str, a: Path, b: Path) -> dict[str, Any]:
    alone = subprocess.run([python, __file__, "--alone", str(a), str(b)], capture_output=True, text=True, check=True)
    return dict(json.loads(alone.stdout))


def measured(a: Path, b: Path, before: str | None, turns: int) -> dict[str, Any]:
    """One pair: rates in MB of both files a second, the quickest of so many turns of each build."""
    size = sum((side / "model.safetensors").stat().st_size for side in (a, b)) / 1e6
    reading = plain_reading(a, b)
    builds = {"exact": sys.executable} | ({"the earlier build": before} if before else {})
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
    for _ in range(turns):
        for name, python in builds.items():
            found[name].append(read_by(python, a, b))
    fastest = {name: min(runs, key=lambda run: run["cpu_seconds"]) for name, runs in found.items()}
    rates = {name: run["seconds"] for name, run in fastest.items()} | {"reading alone": reading}
    busy = {name: run["cpu_seconds"] for name, run in fastest.items()} | {"numpy.corrcoef alone": plain_numpy(a, b)}
    told: dict[str, Any] = {
        "megabytes_of_both": round(size),
        "megabytes_per_second": {name: round(size / seconds) for name, seconds in rates.items()},
        "megabytes_per_processor_second": {name: round(size / seconds) for name, seconds in busy.items()},
        "peak_mb": {name: round(run["peak_mb"]) for name, run in fastest.items()},
        "of_these_imports_mb": {name: round(run["imports_mb"]) for name, run in fastest.items()},
    }
    if before:
        told["times_less_processor_time"] = round(busy["the earlier build"] / busy["exact"], 2)
        told["largest_difference"] = differences(fastest["exact"]["figures"], fastest["the earlier build"]["figures"])
    return told


def differences(figures: list[list[float | None]], others: list[list[float | None]]) -> dict[str, float]:
    """By figure, the largest difference of two builds over all tensors."""
    columns = zip(FIGURES, zip(*figures, strict=True), zip(*others, strict=True), strict=True)
    return {name: max(0.0 if x == y else abs(x - y) for x, y in zip(ours, theirs, strict=True)) for name, ours, theirs in columns}


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


def main(place: str | None, before: str | None, turns: int) -> None:
    from modelkin_indexer.exact.compiled import CORE

    result: dict[str, Any] = {"cores": os.cpu_count(), "compiled core": CORE is not None, "pairs": {}}
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        for width, layers in SHAPES:
            a, near, far = (model(folder / f"{width}-{layers}-{seed}", seed, width, layers) for seed in (1, 2, 3))
            for what, other in (("related, with spectra", near), ("strangers", far)):
                result["pairs"][f"width {width}, {layers} layers, {what}"] = measured(a, other, before, turns)
            if (width, layers) == SHAPES[0]:
                result["resumption"] = resumed(a, near, folder)
    peaks = [pair["peak_mb"]["exact"] for pair in result["pairs"].values()]
    result["largest_peak_over_smallest"] = round(max(peaks) / min(peaks), 2)
    from benchmarks.common.results import write_result  # not there where an earlier build runs this file

    write_result("exact", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        exact_alone(*sys.argv[2:4])
    else:
        arguments = argparse.ArgumentParser()
        arguments.add_argument("--folder")
        arguments.add_argument("--before", help="the Python of an environment that holds an earlier build")
        arguments.add_argument("--turns", type=int, default=3, help="of each build, one after the other")
        chosen = arguments.parse_args()
        main(chosen.folder, chosen.before, chosen.turns)
