"""Every verb on one page: what it costs beside its physical limit or best peer, in an earlier build and in this one, all in one run.

    python -m benchmarks.speed.page TREE [--commit 5b2a6c5] [--only query,add] [--repeat 3] [--models 100] [--megabytes 270]

TREE is the earlier build's source tree, with an environment in TREE/.venv (speed/against.py). Each row is a whole process of the command
line, the limit and both builds in turn, each with a registry of its own of the same models; the median of CPU seconds (user and system)
counts, of which other work on the machine takes less away than of the clock. The limit is the least work that anybody could do: reading
or hashing the bytes, numpy.corrcoef of the same tensors, starting Python with the libraries that are needed, or SQLite alone. `push`,
`pull` and `sync` need the Hub: speed/hub.py. Writes results/speed_page.json and results/speed_page.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from benchmarks.common.results import ROOT, read_result, write_page, write_result
from benchmarks.speed.against import compiled, python_of
from benchmarks.speed.exact import model
from benchmarks.speed.speed import measure

SMALL = (128, 2)  # width and layers of the models that registries are made of
LARGE = 2048  # width of the large ones
LAYER_MB = 33.6  # of a large one
RELATED, STRANGER = 2, 3  # seeds of the large models beside seed 1
START = "import click, numpy, rich.console, sqlite3"
HASHED = """
import hashlib, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        hashlib.file_digest(file, "sha256")
"""
CORRCOEF = """
import sys
import ml_dtypes, numpy as np
from safetensors.numpy import load_file
one, other = (load_file(path) for path in sys.argv[1:])
for name, values in one.items():
    if "norm" not in name:
        np.corrcoef(values.astype(np.float32).ravel(), other[name].astype(np.float32).ravel())
"""
STORED = """
import hashlib, sqlite3, sys
from pathlib import Path
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE model (name TEXT, digest TEXT, blob BLOB)")
for folder in sys.argv[2:]:
    content = (Path(folder) / "model.safetensors").read_bytes()
    database.execute("INSERT INTO model VALUES (?, ?, ?)", [folder, hashlib.sha256(content).hexdigest(), content[:50_000]])
"""
SPANNED = """
import sys
import networkx, numpy as np
models = int(sys.argv[1])
sketches = np.random.default_rng(0).standard_normal((models, 24 * 1024), np.float32)
graph = networkx.from_numpy_array(np.abs(sketches @ sketches.T))
list(networkx.minimum_spanning_edges(graph))
"""
ROWS = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM fingerprint').fetchall()"


class Place(Struct, frozen=True):
    """What the measurements work on: the folder, the small models, and the seeds' large ones."""

    folder: Path
    small: Sequence[Path]
    large: Mapping[int, Path]

    def fresh(self, build: str) -> Path:
        """A copy of a build's registry, for one call."""
        target = self.folder / f"{build}-fresh.db"
        for old in self.folder.glob(f"{target.name}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        shutil.copy(self.folder / f"{build}.db", target)
        return target

    def new(self, build: str) -> Path:
        """Where a build may make a registry."""
        self.fresh(build).unlink()
        return self.folder / f"{build}-fresh.db"


class Verb(Struct, frozen=True):
    """One row: what is done, and what sets its limit. `call` gives the arguments of the command line for a build's registry."""

    name: str
    limit: str
    least: Callable[[Place], list[str]]
    call: Callable[[Place, Path], list[str]]
    empty: bool = False  # begins without a registry
    starter: bool = False  # begins with the models that come with modelkin


def weights(place: Place, seed: int = 1) -> str:
    return str(place.large[seed] / "model.safetensors")


def started(_: Place) -> list[str]:
    return ["-c", START]


def rows(place: Place) -> list[str]:
    return ["-c", ROWS, str(place.folder / "this.db")]


def written(place: Place, name: str) -> str:
    """A file that a call may make anew."""
    target = place.folder / name
    target.unlink(missing_ok=True)
    return str(target)


VERBS = (
    Verb("--help", "importing click", lambda _: ["-c", "import click"], lambda _, __: ["--help"]),
    Verb(
        "fingerprint, level full",
        "SHA-256 of the file",
        lambda p: ["-c", HASHED, weights(p)],
        lambda p, _: ["fingerprint", str(p.large[1]), "--threads", "1", "-o", written(p, "full.modelkin")],
    ),
    Verb(
        "fingerprint, level probe",
        "start",
        started,
        lambda p, _: ["fingerprint", str(p.large[1]), "--level", "probe", "-o", written(p, "probe.modelkin")],
    ),
    Verb(
        "compare, two sources",
        "SHA-256 of both",
        lambda p: ["-c", HASHED, weights(p), weights(p, RELATED)],
        lambda p, _: ["compare", str(p.large[1]), str(p.large[RELATED])],
    ),
    Verb(
        "compare --exact, relatives",
        "numpy.corrcoef",
        lambda p: ["-c", CORRCOEF, weights(p), weights(p, RELATED)],
        lambda p, _: ["compare", str(p.large[1]), str(p.large[RELATED]), "--exact", "--level", "probe"],
    ),
    Verb(
        "compare --exact, strangers",
        "numpy.corrcoef",
        lambda p: ["-c", CORRCOEF, weights(p), weights(p, STRANGER)],
        lambda p, _: ["compare", str(p.large[1]), str(p.large[STRANGER]), "--exact", "--level", "probe"],
    ),
    Verb("query, cold, the starter", "start", started, lambda p, _: ["query", str(p.small[0])], starter=True),
    Verb("query", "start", started, lambda p, db: ["query", str(p.small[1]), "--registry", str(db)]),
    Verb("decompose", "start", started, lambda p, db: ["decompose", str(p.small[1]), "--registry", str(db)]),
    Verb("trajectory", "start", started, lambda p, db: ["trajectory", *map(str, p.small[:3]), "--registry", str(db)]),
    Verb("audit", "start", started, lambda p, _: ["audit", str(p.small[0])]),
    Verb(
        "add, all models",
        "SHA-256 and SQLite",
        lambda p: ["-c", STORED, written(p, "limit.db"), *map(str, p.small)],
        lambda p, db: ["add", *map(str, p.small), "--registry", str(db)],
        empty=True,
    ),
    Verb("tree", "one product, networkx", lambda p: ["-c", SPANNED, str(len(p.small))], lambda _, db: ["tree", "--registry", str(db)]),
    Verb("calibrate", "SQLite", rows, lambda _, db: ["calibrate", "--registry", str(db)]),
    Verb("doctor", "SQLite", rows, lambda _, db: ["doctor", "--registry", str(db)]),
    Verb("list", "SQLite", rows, lambda _, db: ["list", "--registry", str(db)]),
    Verb("show", "start", started, lambda p, db: ["show", p.small[0].name, "--registry", str(db)]),
    Verb("rename", "start", started, lambda p, db: ["rename", p.small[0].name, "another", "--registry", str(db)]),
    Verb("remove", "start", started, lambda p, db: ["remove", p.small[0].name, "--yes", "--registry", str(db)]),
    Verb("export", "SQLite", rows, lambda p, db: ["export", written(p, "all.modelkin-registry"), "--registry", str(db)]),
    Verb(
        "evidence",
        "start",
        started,
        lambda p, db: ["evidence", *map(str, p.small[:2]), "-o", written(p, "bundle.json"), "--registry", str(db)],
    ),
    Verb("formats", "importing click", lambda _: ["-c", "import click"], lambda _, __: ["formats"]),
)


def command_of(tree: Path) -> str:
    return str(Path(python_of(tree)).parent / "modelkin")


def has(tree: Path, verb: str) -> bool:
    """Whether a build has a verb: rows begin with it, or with an option of all."""
    name = verb.split(",")[0].split()[0]
    return name.startswith("--") or subprocess.run([command_of(tree), name, "--help"], capture_output=True).returncode == 0


def measured(verb: Verb, trees: Mapping[str, Path], place: Place, repeat: int) -> dict[str, Any]:
    """CPU seconds of a verb: the median of its limit and of each build that has it, and all of them."""
    runs: dict[str, list[float]] = {}
    able = {name: tree for name, tree in trees.items() if has(tree, verb.name)}
    for _ in range(repeat):
        runs.setdefault("limit", []).append(measure([sys.executable, *verb.least(place)], compiled(place.folder))["cpu_s"])
        for name, tree in able.items():
            registry = place.new(name) if verb.empty else place.fresh(name)
            home = {"HOME": str(place.folder / f"{name}-home"), "XDG_DATA_HOME": str(place.folder / f"{name}-home")}
            alone = {} if verb.starter else {"MODELKIN_REGISTRY": str(registry)}
            command = [command_of(tree), *verb.call(place, registry)]
            runs.setdefault(name, []).append(measure(command, compiled(place.folder) | home | alone)["cpu_s"])
    told: dict[str, Any] = {name: round(float(np.median(seconds)), 3) for name, seconds in runs.items()}
    if "earlier" in told:
        told["times less"] = round(told["earlier"] / told["this"], 2)
    return told | {"limit is": verb.limit, "all": runs}


def prepared(folder: Path, trees: Mapping[str, Path], models: int, megabytes: int) -> Place:
    """The models, a registry of each build, and its own one begun with the starter models and asked once."""
    layers = max(1, round(megabytes / LAYER_MB))
    large = {seed: model(folder / f"large-{seed}", seed, LARGE, layers) for seed in (1, RELATED, STRANGER)}
    small = [model(folder / f"small-{number}", 10 + number, *SMALL) for number in range(models)]
    for name, tree in trees.items():
        environment = compiled(folder) | dict.fromkeys(("HOME", "XDG_DATA_HOME"), str(folder / f"{name}-home"))
        (folder / f"{name}-home").mkdir()
        measure([command_of(tree), "add", *map(str, small), "--registry", str(folder / f"{name}.db")], environment)
        measure([command_of(tree), "query", str(small[0])], environment)
    return Place(folder, small, large)


def page_of(found: Mapping[str, Any]) -> str:
    """The table as people read it."""
    load = ", ".join(f"{number:g}" for number in found["load at the end"])
    lines = [
        "# Every verb, in CPU seconds",
        "",
        f"Whole processes, median of {found['repeat']} runs in turn; written by `benchmarks/speed/page.py`. Load at the end: {load} on "
        f"{found['cores']} processors. {found['small models']} small models in each registry, large ones of {found['megabytes']} MB.",
        "",
        f"| verb | limit or peer | its seconds | {found['other'] or 'earlier build'} | this build | times less |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["verbs"].items():
        earlier, less = row.get("earlier", "has it not"), row.get("times less", "")
        lines.append(f"| {name} | {row['limit is']} | {row['limit']} | {earlier} | {row['this']} | {less} |")
    return "\n".join([*lines, "", "`push`, `pull` and `sync` ask the Hub: `benchmarks/speed/hub.py`.", ""])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--commit", default="", help="what the earlier build is called in the results")
    parser.add_argument("--only", default="", help="beginnings of verbs, separated by commas; the other rows of the last run stay")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--megabytes", type=int, default=270)
    given = parser.parse_args()
    trees = {"earlier": given.tree.resolve(), "this": ROOT}
    chosen = [verb for verb in VERBS if not given.only or verb.name.startswith(tuple(given.only.split(",")))]
    before = read_result("speed_page") if given.only else {"verbs": {}, "small models": given.models, "repeat": given.repeat}
    if (before["small models"], before["repeat"]) != (given.models, given.repeat):
        parser.error(f"the other rows are of --models {before['small models']} --repeat {before['repeat']}")
    found: dict[str, Any] = before["verbs"]
    with tempfile.TemporaryDirectory(prefix="modelkin-page-") as temporary:
        place = prepared(Path(temporary), trees, given.models, given.megabytes)
        size = round((place.large[1] / "model.safetensors").stat().st_size / 1e6)
        for verb in chosen:
            found[verb.name] = measured(verb, trees, place, given.repeat)
            print(verb.name, json.dumps(found[verb.name]), flush=True)
    told = {"other": given.commit, "repeat": given.repeat, "small models": given.models, "megabytes": size, "cores": os.cpu_count()}
    told |= {"load at the end": [round(number, 1) for number in os.getloadavg()], "verbs": found}
    write_result("speed_page", told)
    write_page("speed_page", ".md", page_of(told))


if __name__ == "__main__":
    main()
