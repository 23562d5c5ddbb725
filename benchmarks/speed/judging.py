"""What judging pairs of models costs beside another build: processor seconds of questions, of pairs held both ways and of a tree.

    python -m benchmarks.speed.judging PYTHON [--commit NAME] [--models 120] [--repeat 3]

PYTHON is that of an environment which has the other build installed; this build is the one that runs. Families in fingerprint space
(common/sketch_families.py) beside as many strangers, at both levels, are registered once by each build, which then asks the registry for
its own models, holds pairs both ways, and draws the tree, in a process of its own and in turn; the least of the processor seconds counts,
without the start. Every answer has to be the same to the last digit. Writes results/judging.json; exits 1 where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.results import ROOT, write_result

# Run by each build's own Python.
DRIVER = """
import json, sys, time
from pathlib import Path
from blake3 import blake3
from benchmarks.common.sketch_families import families, strangers
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.registry import Registry
from modelkin_registry.relations.pairs import hold
path, count, full = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "full"
made = [*families(count, 20, full=full), *(("s" + name, one) for name, one in strangers(count, full=full))]
if not path.exists():
    with Registry.open(path) as registry:
        for name, one in made:
            registry.add(name, one)
        registry.refresh()
judge, models, cpu, said = Judge(len(made), {}, {}), [one for _, one in made], {}, {}
pairs = [(at, (at + step) % len(made)) for at in range(0, len(made), 2) for step in (1, 7, 31)]
def measured(name, work):
    start = time.process_time()
    found = work()
    cpu[name], said[name] = time.process_time() - start, blake3(repr(found).encode()).hexdigest()
with Registry.open(path) as registry:
    registry.query(models[0])
    measured("questions", lambda: [registry.query(one) for one in models[::5]])
    measured("pairs", lambda: [hold(models[a], models[b], "", judge).kin() for one in pairs for a, b in (one, one[::-1])])
    measured("tree", lambda: registry.tree().edges)
print(json.dumps({"cpu_s": cpu, "said": said}))
"""


def drive(python: str, registry: Path, models: int, level: str) -> dict[str, Any]:
    """What a build's own process takes and says. The registry keeps no pairs of a tree from one time to the next."""
    command = [python, "-c", DRIVER, str(registry), str(models), level]
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT), PYTHONHASHSEED="0")
    printed = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def beside(python: str, models: int, repeat: int, level: str) -> dict[str, Any]:
    """Both builds on the same models, in turn, each time in a registry of their own."""
    runs: dict[str, list[dict[str, Any]]] = {"other": [], "this": []}
    for _ in range(repeat):
        for name, one in (("other", python), ("this", sys.executable)):
            with tempfile.TemporaryDirectory(prefix="modelkin-judging-") as temporary:
                runs[name].append(drive(one, Path(temporary, "models.db"), models, level))
    said = {json.dumps(run["said"], sort_keys=True) for found in runs.values() for run in found}
    least = {name: {what: min(run["cpu_s"][what] for run in found) for what in found[0]["cpu_s"]} for name, found in runs.items()}
    return {
        "models": 2 * models,
        "same_answers": len(said) == 1,
        "share": {what: round(seconds / least["other"][what], 3) for what, seconds in least["this"].items()},
        "cpu_s": {name: {what: round(seconds, 2) for what, seconds in found.items()} for name, found in least.items()},
    }


def main() -> int:
    """Run it. 1 where an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python")
    parser.add_argument("--commit", default="", help="what the other build is called in the results")
    parser.add_argument("--models", type=int, default=120)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    levels = {level: beside(given.python, given.models, given.repeat, level) for level in ("probe", "full")}
    found = {"other": given.commit} | levels
    write_result("judging", found, out=given.out)
    print(json.dumps(found, indent=1))
    return int(not all(one["same_answers"] for one in levels.values()))


if __name__ == "__main__":
    sys.exit(main())
