"""Search in a registry of synthetic models, held against exact search in the same run: time, agreement, what is found, and sizes.

    python -m benchmarks.speed.search [--models 100000] [--exact 4] [--folder PATH]

Models are made directly in sketch space (sketch_space.py), all of the same shapes, and added through the registry's own face. Writes
benchmarks/results/search.json and search.md; exits 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Container, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, to_builtins

from benchmarks.common.results import write_page, write_result
from benchmarks.common.sketch_space import dense_32_layers
from benchmarks.speed.search_zoo import KINDS, Query, Zoo, make_queries
from benchmarks.speed.speed import make_model
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import QueryAnswer
from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.registry import Registry
from modelkin_registry.search.candidates import index_rows
from modelkin_registry.store.rows import encode

BATCH = 500  # models added in one transaction
QUERIES = 50
SHOWN = 10  # relatives that a question tells by default, in this build and in earlier ones
COLD_MODELS = 1000  # registry of the cold start
COLD_STARTS = 7  # median of
COLD_GIGABYTES = 2.0  # weights file of the cold start
WEIGHTS = "weights"
TARGETS = {
    "warm_query_seconds": 0.5,  # median of a query in an open registry
    "agreement": 0.99,  # share of the 10 nearest of exact search that the index finds
    "cold_query_seconds": 1.5,  # median of `modelkin query` on a written fingerprint, process start included
    "cold_weights_seconds": 1.5,  # the same on a weights file, at level probe
    "probe_kb": 96.0,  # a 32-layer dense model in the registry, blob and search rows
    "full_kb": 320.0,
}


class Asked(Struct, frozen=True):
    """One query: wall and processor seconds, names of those whose matrices agree, best first, and whether the expected one is the first."""

    kind: str
    seconds: float
    cpu_seconds: float
    relatives: tuple[str, ...]
    first: bool
    found: bool
    relation: str


def build(path: Path, zoo: Zoo) -> dict[str, float]:
    """A registry of the zoo's models, or the one that an interrupted run has finished building. Seconds include making the models."""
    noted = path.with_suffix(".json")
    if noted.exists():
        return dict(json.loads(noted.read_text()))
    started = time.perf_counter()
    with Registry.open(path) as registry:
        for start in range(registry.store.count(), zoo.count, BATCH):
            with registry.store.batch():
                for number in range(start, min(start + BATCH, zoo.count)):
                    registry.add(zoo.name(number), zoo.fingerprint(number))
            print(f"\r{start + BATCH} models, {time.perf_counter() - started:.0f} s", end="", file=sys.stderr)
        print(file=sys.stderr)
        added = time.perf_counter()
        registry.refresh()
    seconds = {"add_seconds": added - started, "index_seconds": time.perf_counter() - added}
    noted.write_text(json.dumps(seconds))
    return seconds


def ask(registry: Registry, query: Query, *, exact: bool = False) -> Asked:
    """Time one query and look whether it is right."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = registry.query(query.fingerprint, exact=exact)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    names = tuple(r.model for r in answer.relatives if RELATIONS[r.relation].shows == "matrices")
    first = not names if query.expected is None else names[:1] != () and names[0] in query.expected
    found = not names if query.expected is None else bool(set(names) & query.expected)
    return Asked(query.kind, wall, cpu, names, first, found, _first_relation(answer))


def _first_relation(answer: QueryAnswer) -> str:
    return answer.relatives[0].relation if answer.relatives else "none"


def agreement(approximate: Sequence[Asked], exact: Sequence[Asked]) -> tuple[int, int]:
    """How many of the exact search's nearest the index found too, and how many those are; nothing found by either counts as one."""
    shared, wanted = 0, 0
    for a, b in zip(approximate, exact, strict=True):
        wanted += max(len(b.relatives), 1)
        shared += len(set(a.relatives) & set(b.relatives)) if b.relatives else int(not a.relatives)
    return shared, wanted


def by_kind(asked: Sequence[Asked]) -> dict[str, dict[str, Any]]:
    """Rates and times of each kind of query."""
    groups: dict[str, list[Asked]] = defaultdict(list)
    for one in asked:
        groups[one.kind].append(one)
    return {
        kind: {
            "queries": len(groups[kind]),
            "first": float(np.mean([one.first for one in groups[kind]])),
            "found": float(np.mean([one.found for one in groups[kind]])),
            "median_seconds": float(np.median([one.seconds for one in groups[kind]])),
            "relations": sorted({one.relation for one in groups[kind]}),
        }
        for kind in KINDS
        if kind in groups
    }


def sizes(path: Path, count: int) -> dict[str, float]:
    """Bytes on disk a model, and what a 32-layer dense model takes of its budget."""
    index = sum(file.stat().st_size for file in Path(f"{path}.index").rglob("*") if file.is_file())
    random = np.random.default_rng(0)
    probe, full = (stored_bytes(dense_32_layers(random, full=full)) for full in (False, True))
    return {
        "registry_bytes_per_model": path.stat().st_size / count,
        "index_bytes_per_model": index / count,
        "probe_kb": probe / 1024,
        "full_kb": full / 1024,
    }


def stored_bytes(fingerprint: Fingerprint) -> int:
    """What a fingerprint takes in the registry: its own bytes and its search rows."""
    return len(fingerprint.to_bytes()) + sum(encode(rows).data.nbytes for rows in index_rows(fingerprint))


def cold_starts(folder: Path, zoo: Zoo) -> dict[str, Any]:
    """`modelkin query` in a fresh process against COLD_MODELS models: by a written fingerprint, and by a weights file at level probe."""
    path, written = folder / "cold.sqlite", folder / "query.modelkin"
    build(path, zoo)
    query = next(iter(make_queries(zoo, COLD_MODELS, 1)))
    query.fingerprint.save(written)
    weights = make_model(folder / WEIGHTS, COLD_GIGABYTES)
    with Registry.open(path) as registry, closing(open_source(weights)) as source:
        registry.add(WEIGHTS, fingerprint_source(source, level="probe"))
    asked = {"written": ([str(written)], query.expected or ()), "weights": ([str(weights), "--level", "probe"], (WEIGHTS,))}
    return {"models": COLD_MODELS, "gigabytes": COLD_GIGABYTES} | {
        what: cold_start([*source, "--registry", str(path)], expected) for what, (source, expected) in asked.items()
    }


def cold_start(arguments: list[str], expected: Container[str]) -> dict[str, float]:
    """Medians of COLD_STARTS calls. Exits if the first relative is not an expected one."""
    command = [sys.executable, "-m", "modelkin_cli", "query", *arguments, "--json"]
    seconds, cpu = [], []
    for _ in range(COLD_STARTS):
        before, started = os.times(), time.perf_counter()
        printed = subprocess.run(command, check=True, capture_output=True).stdout
        seconds.append(time.perf_counter() - started)
        after = os.times()
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        relatives = json.loads(printed)["relatives"]
        if relatives[0]["model"] not in expected:
            raise SystemExit(f"the command found {relatives[0]['model']} instead of {expected}")
    return {"median_seconds": float(np.median(seconds)), "median_cpu_seconds": float(np.median(cpu))}


def run(folder: Path, models: int, exact: int) -> dict[str, Any]:
    """All measurements."""
    zoo, path = Zoo(models), folder / "registry.sqlite"
    cold = cold_starts(folder, Zoo(COLD_MODELS))
    built = build(path, zoo)
    queries = list(make_queries(zoo, models, QUERIES))
    with Registry.open(path) as registry:
        ask(registry, queries[0])  # maps the index and checks its digests
        asked = [ask(registry, query) for query in queries]
        print(f"{len(asked)} queries asked of the index", file=sys.stderr)
        sample = sampled(queries, exact)
        exactly = [_told(ask(registry, queries[at], exact=True)) for at in sample]
    shared, wanted = agreement([asked[at] for at in sample], exactly)
    return {
        "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]},
        "models": models,
        "build": built,
        "warm": _times([one.seconds for one in asked]) | {"median_cpu_seconds": float(np.median([one.cpu_seconds for one in asked]))},
        "exact": {
            "queries": len(sample),
            "median_seconds": float(np.median([one.seconds for one in exactly])),
            "relatives_found": shared,
            "relatives": wanted,
            "agreement": shared / wanted,
            "same_order": float(np.mean([asked[at].relatives == one.relatives for at, one in zip(sample, exactly, strict=True)])),
        },
        "kinds": by_kind(asked),
        "sizes": sizes(path, models),
        "cold": cold,
        "queries": [to_builtins(one) for one in asked],
    }


def sampled(queries: Sequence[Query], wanted: int) -> list[int]:
    """Positions of the exactly asked queries: those about families, which have many relatives, take turns with the others."""
    families = [at for at, query in enumerate(queries) if query.kind == KINDS[0]]
    others = [at for at, query in enumerate(queries) if query.kind != KINDS[0]]
    turns = [at for pair in zip_longest(families, others) for at in pair if at is not None]
    return turns[:wanted]


def _told(asked: Asked) -> Asked:
    print(f"exact {asked.kind}: {asked.seconds:.0f} s", file=sys.stderr)
    return asked


def _times(seconds: Sequence[float]) -> dict[str, float]:
    return {"queries": len(seconds), "median_seconds": float(np.median(seconds)), "p95_seconds": float(np.quantile(seconds, 0.95))}


def checks(results: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """(what, measured, target, held)."""
    measured = {
        "warm_query_seconds": results["warm"]["median_seconds"],
        "agreement": results["exact"]["agreement"],
        "cold_query_seconds": results["cold"]["written"]["median_seconds"],
        "cold_weights_seconds": results["cold"]["weights"]["median_seconds"],
        "probe_kb": results["sizes"]["probe_kb"],
        "full_kb": results["sizes"]["full_kb"],
    }
    sign = {"agreement": -1}  # more is better
    return [(name, got, TARGETS[name], sign.get(name, 1) * (TARGETS[name] - got) >= 0) for name, got in measured.items()]


def table(results: dict[str, Any]) -> str:
    """The results as a page."""
    machine = f"{results['machine']['processors']} processors, load {results['machine']['load']:.1f} at the end"
    lines = [
        f"# Search among {results['models']:,} models",
        "",
        "Synthetic models in sketch space, all of one shape; written by `benchmarks/speed/search.py`.",
        f"Machine: {machine}; with other work beside it, processor seconds say more.",
        "",
        "| target | measured | limit | held |",
        "|---|---|---|---|",
    ]
    for name, got, limit, held in checks(results):
        lines.append(f"| {name.replace('_', ' ')} | {got:.3g} | {limit:.3g} | {'yes' if held else 'NO'} |")
    lines += [
        "",
        *_sentences(results),
        "",
        "| query | queries | right model first | found in the ten | median s | relations of the first |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for kind, row in results["kinds"].items():
        rates = f"{row['first']:.0%} | {row['found']:.0%}"
        lines.append(f"| {kind} | {row['queries']} | {rates} | {row['median_seconds']:.3f} | {', '.join(row['relations'])} |")
    lines += ["", f"For a stranger, right means that of none of the {SHOWN} shown matrices agree. Drawn models have learned nothing, so"]
    lines += ["that a far copy is told as a common start.", ""]
    return "\n".join(lines)


def _sentences(results: dict[str, Any]) -> list[str]:
    warm, exact, built, size, cold = (results[part] for part in ("warm", "exact", "build", "sizes", "cold"))
    return [
        f"- Warm query: median {warm['median_seconds']:.3f} s, 95th percentile {warm['p95_seconds']:.3f} s; of processor time "
        f"{warm['median_cpu_seconds']:.3f} s.",
        f"- `modelkin query` from a cold start against {cold['models']} models: {_cold(cold['written'])} on a written fingerprint, "
        f"{_cold(cold['weights'])} on {cold['gigabytes']:.0f} GB of weights at level probe.",
        f"- Exact search of {exact['queries']} of these queries (every model confirmed, {exact['median_seconds']:.0f} s each): "
        f"{exact['relatives_found']} of {exact['relatives']} nearest found by the index too; same order for {exact['same_order']:.0%}.",
        f"- Building: {built['add_seconds']:.0f} s to make and add, {built['index_seconds']:.0f} s to index. On disk "
        f"{size['registry_bytes_per_model'] / 1024:.1f} KB a model, and {size['index_bytes_per_model'] / 1024:.1f} KB in the index.",
    ]


def _cold(times: dict[str, float]) -> str:
    return f"median {times['median_seconds']:.2f} s ({times['median_cpu_seconds']:.2f} s of processor time)"


def main() -> int:
    """Run it. 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--exact", type=int, default=4, help="queries that are also asked exactly")
    parser.add_argument("--folder", type=Path, help="where registries are made and kept, to go on with (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkin-search-") as temporary:
        results = run(given.folder or Path(temporary), given.models, given.exact)
    write_result("search", results)
    write_page("search", ".md", table(results))
    print(table(results))
    return 0 if all(held for *_, held in checks(results)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
