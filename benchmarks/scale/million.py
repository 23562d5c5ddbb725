"""Search among a million models: seconds and memory of a question, what is found beside exhaustive search, opening, and one model more.

    python -m benchmarks.scale.million [--models 1000000] [--layers 12] [--folder PATH] [--beside TREE]

The registry is made by many_models.py: 4,000 models of the search benchmark's zoo among strangers. A process of its own opens it and asks
the zoo's questions, and further ones about copies at a cosine of 0.3; then one model is added and asked for. What is found is held against
exhaustive search of the same rows. TREE is the source tree of another build of this layout of modules, which makes such a registry too and
is asked the same.
Writes results/million.json; exits 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.results import ROOT, write_result
from benchmarks.common.sketch_space import LAYERS, child, fingerprint, fresh
from benchmarks.scale.many_models import OWN, StandIns, build
from benchmarks.speed.search_zoo import KINDS, SEED, Query, Zoo, make_queries
from modelkin_registry.registry import Registry
from modelkin_registry.search.candidates import find_candidates_of_many, index_rows
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.ranking import Hits
from modelkin_registry.store.rows import Array, is_codes

ZOO_QUESTIONS, FAR_QUESTIONS = 48, 100
EXHAUSTIVE = 24  # of the zoo's questions that are also searched exhaustively
TEN = 10
TARGETS = {
    "warm_query_seconds": 0.5,
    "memory_gb": 2.0,
    "open_seconds": 0.3,
    "add_seconds": 1.0,
    "right_at_0.3": -0.99,
    "ten_nearest": -0.99,
}  # at most; below 0: at least
SHALLOW, DEEP_SECONDS = 12, 1.0  # models of more layers have more time
DRIVER = """
import json, resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.common.sketch_space import LAYERS
LAYERS["text"] = int(sys.argv[5])
from benchmarks.scale.many_models import StandIns, build
from benchmarks.speed.search import ask
from benchmarks.speed.search_zoo import Query
from modelkin_indexer.results.fingerprint import from_bytes
from modelkin_registry.registry import Registry
folder = Path(sys.argv[3])
told = json.loads((folder / "questions.json").read_text())
queries = [Query(kind, from_bytes((folder / file).read_bytes()), right and frozenset(right)) for kind, file, right in told]
if sys.argv[4] != "0" and not (noted := Path(sys.argv[2]).with_suffix(".json")).exists():
    noted.write_text(json.dumps(build(Path(sys.argv[2]), int(sys.argv[4]))))
wall = time.perf_counter()
registry = Registry(StandIns.open(Path(sys.argv[2])))
opened = time.perf_counter() - wall
first = ask(registry, queries[0])
asked = [ask(registry, query) for query in queries]
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
found = [[one.kind, one.seconds, one.cpu_seconds, one.first, one.found] for one in asked]
print(json.dumps({"open": opened, "first": [first.seconds, first.cpu_seconds], "memory_gb": memory, "asked": found}))
"""


def questions(count: int, far_ones: int) -> list[Query]:
    """The zoo's questions in turn, and copies of its lone models at a cosine of 0.3."""
    zoo, far = Zoo(OWN), []
    for number in range(far_ones):
        random = np.random.default_rng([SEED, 6, number])
        of = int(random.integers(zoo.lone_from, zoo.count))
        far.append(Query(KINDS[3], fingerprint(child(random, zoo.model(of), 0.3), random), frozenset({zoo.name(of)})))
    return [*make_queries(zoo, OWN, count), *far]


def keep(queries: Sequence[Query], folder: Path) -> None:
    """The questions in files, for processes of their own."""
    told = []
    for number, query in enumerate(queries):
        (folder / f"{number}.modelkin").write_bytes(query.fingerprint.to_bytes())
        told.append([query.kind, f"{number}.modelkin", sorted(query.expected) if query.expected else None])
    (folder / "questions.json").write_text(json.dumps(told))


def asked(tree: Path, path: Path, folder: Path, count: int, make: int = 0) -> dict[str, Any]:
    """All questions, asked in a process of its own by the build of a tree, which makes the registry first where it is of so many models.

    The first `count` questions are the zoo's.
    """
    parts = ("data", "indexer", "registry", "api", "cli")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(tree / part) for part in parts)}
    command = [sys.executable, "-c", DRIVER, str(ROOT), str(path), str(folder), str(make), str(LAYERS["text"])]
    printed = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = dict(json.loads(printed.splitlines()[-1]))
    return {**found, **_rates(found["asked"], count)}


def _rates(found: Sequence[Sequence[Any]], count: int) -> dict[str, Any]:
    zoo = found[:count]
    kinds = {kind: [one for one in zoo if one[0] == kind] for kind in KINDS}
    return {
        "median_seconds": float(np.median([seconds for _, seconds, *_ in zoo])),
        "median_cpu_seconds": float(np.median([cpu for *_, cpu, _, _ in zoo])),
        "right_at_0.3": float(np.mean([right for *_, right in found[count:]])),
        "kinds": {kind: _kind(some) for kind, some in kinds.items() if some},
    }


def _kind(some: Sequence[Sequence[Any]]) -> dict[str, Any]:
    cpu, first, found = ([one[at] for one in some] for at in (2, 3, 4))
    return {"questions": len(some), "median_cpu_seconds": float(np.median(cpu)), "first": sum(first), "found": sum(found)}


class Exhaustive:
    """An index whose float16 kinds are searched in the store's table. Sign codes it searches exhaustively itself, as tests hold."""

    def __init__(self, index: VectorIndex) -> None:
        self.index, self.models_of = index, index.models_of
        self.found: dict[str, tuple[Array, Hits]] = {}  # of each kind the queries and what was found

    def search(self, kind: str, queries: Array, k: int) -> Hits:
        """The nearest of all rows."""
        found = self.index.search(kind, queries, k) if is_codes(kind) else self.index.search_exact(kind, queries, k)
        self.found[kind] = queries, found
        return found

    search_exact = search


def beside_exhaustive(path: Path, queries: Sequence[Query]) -> dict[str, Any]:
    """Of the ten nearest rows of each kind, and of the ten first candidates, the share that the index finds."""
    with Registry(StandIns.open(path)) as registry:
        prints, exhaustive = [query.fingerprint for query in queries], Exhaustive(registry.index)
        found = find_candidates_of_many(registry.index, prints)
        wanted = find_candidates_of_many(exhaustive, prints)
        shared: dict[str, list[float]] = {}
        for kind, (asked, hits) in exhaustive.found.items():
            pairs = zip(_places(registry.index.search(kind, asked, TEN)), _places(hits), strict=True)
            shared[kind] = [len(set(a) & set(b[:TEN])) / TEN for a, b in pairs]
    first = [len(set(a[:TEN]) & set(b[:TEN])) / len(b[:TEN]) for a, b in zip(found, wanted, strict=True)]
    return {
        "questions": len(queries),
        "ten_nearest_by_kind": {kind: float(np.mean(values)) for kind, values in sorted(shared.items())},
        "ten_nearest": float(np.mean([value for kind, values in shared.items() if not is_codes(kind) for value in values])),
        "ten_first_candidates": float(np.mean(first)),
    }


def _places(hits: Any) -> list[list[tuple[int, str, int]]]:
    columns = (hits.revisions, hits.components, hits.layers)
    return [list(zip(*(column[at].tolist() for column in columns), strict=True)) for at in range(len(hits.revisions))]


def one_more(path: Path) -> dict[str, Any]:
    """Seconds of adding one model, and whether it is found then without any file of the index being written."""
    model = fingerprint(fresh(np.random.default_rng([SEED, 7, os.getpid()])), np.random.default_rng(1))
    files = {file: file.stat().st_mtime_ns for file in Path(f"{path}.index").rglob("*")}
    with Registry(StandIns.open(path)) as registry:
        began = time.perf_counter(), time.process_time()
        registry.add("one-more", model)
        seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        newest = registry.store.find("one-more")
        (rows, *_) = index_rows(model)
        found = registry.index.search(rows.kind, rows.rows, 1).revisions[0, 0]
        is_found = newest is not None and int(found) in registry.store.revisions_of(newest)
        registry.remove("one-more")
    kept = {file: file.stat().st_mtime_ns for file in Path(f"{path}.index").rglob("*")} == files
    return {"add_seconds": seconds, "add_cpu_seconds": cpu, "found": is_found, "index_untouched": kept}


def index_bytes(path: Path) -> int:
    """What the index takes on the disk."""
    return sum(file.stat().st_size for file in Path(f"{path}.index").rglob("*") if file.is_file())


def run(folder: Path, models: int, beside: Path | None, count: int, far: int, exhaustive: int) -> dict[str, Any]:
    """All measurements, with so many of the zoo's questions, about far copies, and searched exhaustively."""
    stem = str(models) if LAYERS["text"] == SHALLOW else f"{models}-of-{LAYERS['text']}"
    path, noted = folder / f"{stem}.sqlite", folder / f"{stem}.json"
    if not noted.exists():
        noted.write_text(json.dumps(build(path, models)))
    with Registry(StandIns.open(path)):
        pass  # of an earlier version it is brought up to date before it is timed
    queries = questions(count, far)
    keep(queries, folder)
    found: dict[str, Any] = {"models": models, "layers": LAYERS["text"], "build": json.loads(noted.read_text())}
    found["this"] = asked(ROOT, path, folder, count)
    print(json.dumps({name: value for name, value in found["this"].items() if name != "asked"}, indent=1), file=sys.stderr)
    if exhaustive:
        found["exhaustive"] = beside_exhaustive(path, queries[:exhaustive])
    found["one_more"] = one_more(path)
    found["bytes"] = {"registry": path.stat().st_size, "index": index_bytes(path)}
    if beside is not None:
        found["beside"] = {"commit": _commit(beside), **asked(beside.resolve(), folder / f"beside-{stem}.sqlite", folder, count, models)}
    return found


def _commit(tree: Path) -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def checks(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each target: what was measured, the limit, and whether it holds."""
    this = found["this"]
    measured = {
        "warm_query_seconds": this["median_seconds"],
        "memory_gb": this["memory_gb"],
        "open_seconds": this["open"],
        "add_seconds": found["one_more"]["add_seconds"],
        "right_at_0.3": this["right_at_0.3"],
    }
    if "exhaustive" in found:
        measured["ten_nearest"] = found["exhaustive"]["ten_nearest"]
    limits = {name: TARGETS[name] for name in measured}
    if found["layers"] > SHALLOW:
        limits["warm_query_seconds"] = DEEP_SECONDS
    return {
        name: {"measured": measured[name], "limit": abs(limit), "held": measured[name] <= limit if limit > 0 else measured[name] >= -limit}
        for name, limit in limits.items()
    }


def main() -> int:
    """Run it. 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=LAYERS["text"], help="of every model")
    parser.add_argument("--questions", type=int, default=ZOO_QUESTIONS)
    parser.add_argument("--far", type=int, default=FAR_QUESTIONS, help="questions about copies at a cosine of 0.3")
    parser.add_argument(
        "--exhaustive", type=int, default=EXHAUSTIVE, help="of the first questions those that are searched exhaustively too"
    )
    parser.add_argument("--folder", type=Path, help="where the registry is made and kept (default: a temporary folder)")
    parser.add_argument("--beside", type=Path, help="source tree of another build, which reads the same registry")
    parser.add_argument("--out", type=Path, help="where the result goes (default: results/million.json)")
    given = parser.parse_args()
    LAYERS["text"] = given.layers
    with tempfile.TemporaryDirectory(prefix="modelkin-million-") as temporary:
        folder = given.folder or Path(temporary)
        found = run(folder, given.models, given.beside, given.questions, given.far, given.exhaustive)
    held = checks(found)
    write_result("million", {"targets": held, **found}, out=given.out)
    print(json.dumps(held, indent=1))
    return int(not all(one["held"] for one in held.values()))


if __name__ == "__main__":
    raise SystemExit(main())
