"""What level full and a query cost beside another build of modelkin, in one run and in turn: CPU seconds, so that other work matters less.

    python -m benchmarks.speed.against TREE [--gigabytes 2] [--models 100000] [--repeat 5] [--folder PATH]

TREE is the other build's source tree, with an environment in TREE/.venv that has it installed (`git worktree add TREE COMMIT`). Both index
one bf16 file (speed.py), each in its turn, and both build a registry of the same synthetic models by their own search benchmark and answer
its questions. Writes results/against.json; exits 1 where this build takes over MOST times the other's CPU seconds at level full, or longer
to answer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import ROOT, write_result
from benchmarks.speed.speed import make_model, measure

MOST = 1.1  # times the other's CPU seconds at level full
EQUAL = 1.02  # times the other's CPU seconds of a query that still are no slower: what two runs of one build differ by
QUESTIONS, ROUNDS = 48, 3  # questions, and times that each is asked; the least of the times counts
# Run by each build's own Python in its own tree. What `search.py` is has moved since.
DRIVER = """
import json, sys
from pathlib import Path
try:
    from benchmarks.speed.search import Registry, Zoo, ask, build, make_queries
except ImportError:
    sys.path.insert(0, "benchmarks")
    from search import Registry, Zoo, ask, build, make_queries
path, models, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
zoo = Zoo(models)
seconds = build(path, zoo)
queries = list(make_queries(zoo, models, max(count, 1)))
with Registry.open(path) as registry:
    ask(registry, queries[0])  # maps the index and checks its digests
    asked = [ask(registry, query) for query in queries[:count]]
print(json.dumps({"build": seconds, "asked": [[one.kind, one.seconds, one.cpu_seconds, one.first] for one in asked]}))
"""


def python_of(tree: Path) -> str:
    """The Python that has the build of a tree: this tree's is the one that runs."""
    return sys.executable if tree == ROOT else str(tree / ".venv/bin/python")


def fingerprinted(trees: Mapping[str, Path], folder: Path, gigabytes: float, repeat: int) -> dict[str, Any]:
    """CPU seconds of `modelkin fingerprint` at both levels in one thread, by build: all of them and the median."""
    model = folder / "model"
    if not (model / "model.safetensors").exists():
        make_model(model, gigabytes)
    runs: dict[str, dict[str, list[float]]] = {level: {name: [] for name in trees} for level in ("full", "probe")}
    for _ in range(repeat):
        for level, found in runs.items():
            for name, tree in trees.items():
                command = [str(Path(python_of(tree)).parent / "modelkin"), "fingerprint", str(model), "--level", level, "--threads", "1"]
                ran = measure([*command, "-o", str(folder / f"{name}.modelkin")], compiled(folder))
                found[name].append(ran["cpu_s"])
    return {level: {name: _told(seconds) for name, seconds in found.items()} for level, found in runs.items()}


def compiled(folder: Path) -> dict[str, str]:
    """An environment of one thread in which modules are compiled once, whatever the environment says, not by one build at each start."""
    return dict(os.environ, OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=str(folder / "bytecode"))


def _told(seconds: Sequence[float]) -> dict[str, Any]:
    return {"median_cpu_s": float(np.median(seconds)), "least_cpu_s": min(seconds), "all_cpu_s": list(seconds)}


def asked(trees: Mapping[str, Path], folder: Path, models: int) -> dict[str, Any]:
    """CPU seconds of the same questions to a registry of the same models, by build: the builds take turns, the least of each counts."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for name, tree in trees.items():
        _drive(tree, folder / f"{name}-{models}.sqlite", models, 0)
    for _ in range(ROUNDS):
        for name, tree in trees.items():
            rounds[name].append(_drive(tree, folder / f"{name}-{models}.sqlite", models, QUESTIONS))
    found: dict[str, Any] = {"models": models, "questions": QUESTIONS}
    for name, answers in rounds.items():
        cpu = np.min([[seconds for _, _, seconds, _ in one["asked"]] for one in answers], axis=0)
        first = np.mean([right for *_, right in answers[0]["asked"]])
        found[name] = {"median_cpu_s": float(np.median(cpu)), "sum_cpu_s": float(cpu.sum()), "right_first": float(first)}
        found[name] |= {"build": answers[0]["build"], "cpu_s": [round(float(one), 4) for one in cpu]}
    found["kinds"] = [kind for kind, *_ in rounds["this"][0]["asked"]]
    return found


def _drive(tree: Path, registry: Path, models: int, count: int) -> dict[str, Any]:
    command = [python_of(tree), "-c", DRIVER, str(registry), str(models), str(count)]
    environment = compiled(registry.parent) | {"PYTHONPATH": str(tree)}
    printed = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def run(tree: Path, folder: Path, gigabytes: float, models: int, repeat: int) -> dict[str, Any]:
    """All measurements, and how this build stands to the other."""
    trees = {"other": tree.resolve(), "this": ROOT}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=tree, capture_output=True, text=True, check=True).stdout.strip()
    found: dict[str, Any] = {"other": head, "gigabytes": gigabytes, **fingerprinted(trees, folder, gigabytes, repeat)}
    ratios = {level: found[level]["this"]["median_cpu_s"] / found[level]["other"]["median_cpu_s"] for level in ("full", "probe")}
    if models:
        found["query"] = asked(trees, folder, models)
        ratios["query"] = found["query"]["this"]["sum_cpu_s"] / found["query"]["other"]["sum_cpu_s"]
    return {"times_the_other": {name: round(ratio, 3) for name, ratio in ratios.items()}, **found}


def main() -> int:
    """Run it. 1 if this build is dearer than asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--models", type=int, default=100_000, help="in each registry; 0 asks none")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the file and the registries are made and kept (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkin-against-") as temporary:
        found = run(given.tree, given.folder or Path(temporary), given.gigabytes, given.models, given.repeat)
    write_result("against", found)
    print(json.dumps(found["times_the_other"], indent=1))
    ratios = found["times_the_other"]
    return int(ratios["full"] > MOST or ratios.get("query", 0.0) > EQUAL)


if __name__ == "__main__":
    raise SystemExit(main())
