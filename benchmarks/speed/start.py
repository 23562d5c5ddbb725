"""What people wait for at the start, beside an earlier build: a first question, a later one, and many small models added.

    python -m benchmarks.speed.start TREE [--commit 5b2a6c5] [--repeat 7] [--models 500]

TREE is the earlier build's source tree, with an environment in TREE/.venv (speed/against.py). Whole processes of the command line, both
builds in turn, by the clock and in CPU seconds (user and system): the median of each, and all. `cold` begins without a registry, so that
the starter registry is copied; `warm` has one. `add` begins with an empty registry each time, on the disk that has temporary files.
The limit is starting Python with the libraries that every answer needs. Writes results/start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import ROOT, write_result
from benchmarks.speed.against import compiled
from benchmarks.speed.exact import model
from benchmarks.speed.page import SMALL, START, command_of
from benchmarks.speed.speed import measure

Runs = dict[str, dict[str, list[dict[str, float]]]]


def run(trees: Mapping[str, Path], folder: Path, models: int, repeat: int) -> Runs:
    """Every run's measures, by what is done and by build."""
    small = [str(model(folder / f"small-{number}", 10 + number, *SMALL)) for number in range(models)]
    found: Runs = {}
    for round_ in range(-1, repeat):  # the first compiles modules and fills the disk's cache, and does not count
        for name, tree in {"limit": None, **trees}.items():
            home = folder / f"{name}-home"
            environment = compiled(folder) | dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(home))
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir()
            calls = {"start": [sys.executable, "-c", START]}
            if tree is not None:
                command = command_of(tree)
                calls = {"cold": [command, "query", small[0]], "warm": [command, "query", small[0]]}
                calls["add"] = [command, "add", *small, "--registry", str(home / "added.db")]
            for what, call in calls.items():
                measured = measure(call, environment)
                if round_ >= 0:
                    found.setdefault(what, {}).setdefault(name, []).append(measured)
    return found


def told(runs: Runs) -> dict[str, Any]:
    """Medians of both clocks, how many times less this build takes, and all runs."""
    found: dict[str, Any] = {}
    for what, builds in runs.items():
        row: dict[str, Any] = {
            name: {clock: round(float(np.median([one[clock] for one in all_])), 3) for clock in ("wall_s", "cpu_s")}
            for name, all_ in builds.items()
        }
        if "earlier" in row:
            row["times less"] = {clock: round(row["earlier"][clock] / row["this"][clock], 2) for clock in ("wall_s", "cpu_s")}
        found[what] = row | {"all": builds}
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--commit", default="", help="what the earlier build is called in the results")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--models", type=int, default=500)
    given = parser.parse_args()
    trees = {"earlier": given.tree.resolve(), "this": ROOT}
    with tempfile.TemporaryDirectory(prefix="modelkin-start-") as temporary:
        found = told(run(trees, Path(temporary), given.models, given.repeat))
    write_result("start", {"other": given.commit, "models added": given.models, "repeat": given.repeat, "cores": os.cpu_count(), **found})
    print(json.dumps({what: {name: row[name] for name in row if name != "all"} for what, row in found.items()}, indent=1))


if __name__ == "__main__":
    main()
