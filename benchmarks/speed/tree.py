"""Family trees of many models beside another build, and of a large registry: processor seconds, memory, the same edges.

    python -m benchmarks.speed.tree TREE [--models 200] [--family 40] [--large 10000] [--repeat 3] [--folder PATH]

TREE is the other build's source tree, with an environment in TREE/.venv (speed/against.py). Both register the same families in fingerprint
space (common/sketch_families.py), each under its own spec, and draw their forest in a process of its own, in turn; the least of the
processor seconds counts, the start of Python and the reading of fingerprints among them; each time of a copy that keeps no pairs yet, and
once more by this build of one that does (`again_cpu_s`). The large registry is drawn by this build alone,
which works on it by several processes: their processor seconds are counted, and the memory of each is taken for that of the largest.
Writes results/tree.json; exits 1 where the edges differ, or this build misses LESS or the limits of the large one.
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

from benchmarks.common.results import ROOT, write_result
from benchmarks.speed.against import python_of
from modelkin_registry.trees.processes import processes_for

LESS = 10.0  # times less processor time than the other build
LARGE_SECONDS, LARGE_MB = 300.0, 2000.0  # of the large registry, by the clock and at the peak
FAMILIES = ROOT / "benchmarks/common/sketch_families.py"
# Run by each build's own Python in its own tree. Where older builds keep what the families are made of is told by ALIASES.
DRIVER = """
import importlib, json, resource, sys, time, types
from pathlib import Path
path, count, size, what, source = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5])
try:
    import benchmarks.common.sketch_space
except ImportError:
    sys.path.insert(0, "benchmarks")
    space = importlib.import_module("sketch_space")
    common = types.ModuleType("benchmarks.common")
    common.sketch_space = space
    sys.modules |= {"benchmarks.common": common, "benchmarks.common.sketch_space": space}
    sys.modules["modelkin_indexer.results.fingerprint"] = importlib.import_module("modelkin_indexer.fingerprint")
from modelkin_registry.registry import Registry
if what == "build":
    made = {"__name__": "families"}
    exec(compile(source.read_text(), str(source), "exec"), made)
    with Registry.open(path) as registry:
        for name, fingerprint in made["families"](count, size):
            registry.add(name, fingerprint)
        registry.refresh()
    print(json.dumps({}))
else:
    said = []
    start = time.perf_counter()
    with Registry.open(path) as registry:
        answer = registry.tree(say=said.append) if what == "told" else registry.tree()
    edges = [[edge.parent, edge.child, edge.kind, edge.direction] for edge in answer.edges]
    wall = time.perf_counter() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"cpu_s": sum(one.ru_utime + one.ru_stime for one in usages), "wall_s": wall, "edges": edges, "pairs": answer.held,
        "peaks_mb": [one.ru_maxrss / 1e3 for one in usages], "progress": len(said)}))
"""


def drive(tree: Path, registry: Path, count: int, size: int, what: str) -> dict[str, Any]:
    """What a build's own process does with a registry: `build` it, or draw its `tree` (`told`: with its progress)."""
    command = [python_of(tree), "-c", DRIVER, str(registry), str(count), str(size), what, str(FAMILIES)]
    environment = dict(os.environ, OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"), PYTHONPATH=str(tree))
    printed = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def beside(other: Path, folder: Path, models: int, family: int, repeat: int) -> dict[str, Any]:
    """Both builds on the same families, in turn."""
    trees = {"other": other.resolve(), "this": ROOT}
    for name, tree in trees.items():
        drive(tree, folder / f"{name}.db", models, family, "build")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for _ in range(repeat):
        for name, tree in trees.items():
            asked = shutil.copyfile(folder / f"{name}.db", folder / "asked.db")  # in which no pair is kept yet
            runs[name].append(drive(tree, asked, models, family, "tree"))
    again = drive(ROOT, asked, models, family, "tree")
    drawn = {name: {frozenset(edge[:2]) for edge in found[0]["edges"]} for name, found in runs.items()}
    least = {name: min(run["cpu_s"] for run in found) for name, found in runs.items()}
    return {
        "models": models,
        "family": family,
        "times_less": round(least["other"] / least["this"], 2),
        "again_cpu_s": round(again["cpu_s"], 2),
        "same_edges": len(drawn["this"] & drawn["other"]),
        "other_edges": sorted(sorted(edge) for edge in drawn["this"] ^ drawn["other"]),
        "builds": {
            name: {
                "least_cpu_s": round(least[name], 2),
                "all_cpu_s": [round(run["cpu_s"], 2) for run in found],
                "peak_mb": round(found[0]["peaks_mb"][0]),
                "pairs": found[0]["pairs"],
                "edges": len(found[0]["edges"]),
                "directions": sum(edge[3] == "hint" for edge in found[0]["edges"]),
            }
            for name, found in runs.items()
        },
    }


def large(folder: Path, models: int, family: int) -> dict[str, Any]:
    """This build on a large registry, with its progress."""
    drive(ROOT, folder / "large.db", models, family, "build")
    ran = drive(ROOT, folder / "large.db", models, family, "told")
    told = {"models": models, "family": family, "edges": len(ran["edges"]), "pairs": ran["pairs"], "words_of_progress": ran["progress"]}
    own, child = ran["peaks_mb"]
    processes = processes_for(models) if child else 0
    told |= {"processes": processes, "peak_mb": round(own + processes * child, 1)}
    return told | {name: round(ran[name], 1) for name in ("wall_s", "cpu_s")}


def main() -> int:
    """Run it. 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--commit", default="", help="what the other build is called in the results")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--family", type=int, default=40, help="models of a family, its base among them")
    parser.add_argument("--large", type=int, default=10_000, help="models of the large registry; 0 draws none")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkin-tree-") as temporary:
        found = {"other": given.commit} | beside(given.tree, Path(temporary), given.models, given.family, given.repeat)
        if given.large:
            found["large"] = large(Path(temporary), given.large, given.family)
    write_result("tree", found, out=given.out)
    print(json.dumps(found, indent=1))
    big = found.get("large", {"wall_s": 0.0, "peak_mb": 0.0})
    missed = found["times_less"] < LESS or big["wall_s"] > LARGE_SECONDS or big["peak_mb"] > LARGE_MB
    return int(missed or bool(found["other_edges"]))


if __name__ == "__main__":
    sys.exit(main())
