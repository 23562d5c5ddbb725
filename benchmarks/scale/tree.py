"""Family trees of a large registry: worked out first, again, after one model more, and around one model.

Models are made in sketch space (`common/sketch_families.py`): families of 20, a base, its children and theirs. Pairs that were held against
each other are kept with the registry, so that the next tree holds only new ones; that it is the tree worked out afresh is a test
(tests/contract/test_every_store_trees.py), and looked at here too. Seconds are of an open registry, the first around a model each time of
one whose family was not looked at before: as a page shows it (one step) and as the command does (two). Of the large registry also what one
model more costs: its `add`, and the tree around it, which no step before has prepared.

    python -m benchmarks.scale.tree --models 300 --around 100000 [--folder PATH]

The registries are made in PATH, and left there to be asked again, with another --seed around other models. Writes results/tree_scale.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from benchmarks.common.results import write_result
from benchmarks.common.sketch_families import families
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.registry import Registry
from modelkin_registry.trees.trees import DEPTH

SIZE = 20  # models of a family
ASKED = 8  # models around which a tree is asked for, of each kind
PAGE = 1  # steps around a model on its page
CHANGE = 0.2  # of the model that comes later, against its base
AT_ONCE = 500  # models put in one transaction
Result = TypeVar("Result")


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = call()
    return round(time.perf_counter() - began, 3), result


def fill(registry: Registry, models: int) -> Fingerprint:
    """Put in all but the last of them, which is returned: of a family that has others."""
    made, last = families(models, SIZE), None
    for start in range(0, models, AT_ONCE):
        with registry.store.batch():
            for _, (name, fingerprint) in zip(range(min(AT_ONCE, models - start)), made, strict=False):
                last = (name, fingerprint)
                if name != f"m{models - 1:05}":
                    registry.add(name, fingerprint)
    registry.refresh()
    assert last is not None
    return last[1]


def whole(models: int, folder: Path) -> dict[str, Any]:
    """The tree of all models."""
    with Registry.open(folder / f"whole{models}.db") as registry:
        last = fill(registry, models)
        bare = registry.store.inspection.size()
        first, answer = timed(registry.tree)
        again, same = timed(registry.tree)
        assert same == answer
        registry.add(f"m{models - 1:05}", last)
        after, answer = timed(registry.tree)
        found = {"models": models, "edges": len(answer.edges), "pairs": answer.held, "first_seconds": first, "again_seconds": again}
        return found | {"after_one_more_seconds": after, "kept_bytes_a_model": round((registry.store.inspection.size() - bare) / models)}


def around(models: int, folder: Path, seed: int) -> dict[str, Any]:
    """Trees around single models of a registry in which none was asked for before."""
    with Registry.open(folder / f"around{models}.db") as registry:
        if not registry.store.count():
            fill(registry, models)
        families = models // SIZE - 1  # the last one is left for the model that comes later
        names = [f"m{SIZE * family + SIZE // 2:05}" for family in Random(seed).sample(range(families), 2 * ASKED + 1)]
        cold, _ = timed(lambda: registry.tree(names[0], depth=PAGE))
        found: dict[str, Any] = {"models": models, "cold_page_seconds": cold}
        found["page"] = around_each(registry, names[1::2], PAGE)
        found["command"] = around_each(registry, names[2::2], DEPTH)
        return found | {"one_more": one_more(registry, models)}


def around_each(registry: Registry, names: Sequence[str], depth: int) -> dict[str, Any]:
    """The tree around each of these models, twice."""
    runs: list[list[tuple[float, TreeAnswer]]] = []
    processor: list[float] = []
    for _ in range(2):
        began = time.process_time()
        runs.append([timed(partial(registry.tree, name, depth=depth)) for name in names])
        processor.append(round((time.process_time() - began) / len(names), 3))
    assert [answer for _, answer in runs[0]] == [answer for _, answer in runs[1]]
    found: dict[str, Any] = {"shown": statistics.median(len(answer.models) for _, answer in runs[0])}
    for what, run, mean in zip(("first", "again"), runs, processor, strict=True):
        seconds = [seconds for seconds, _ in run]
        found |= {
            f"{what}_seconds": round(statistics.median(seconds), 3),
            f"longest_{what}_seconds": max(seconds),
            f"mean_{what}_processor_seconds": mean,
        }
    return found


def one_more(registry: Registry, models: int) -> dict[str, Any]:
    """What a model costs that comes to the last family: to add it, and its page."""
    base = registry.get(f"m{models - SIZE:05}")
    table = base.matrices
    random = np.random.default_rng(models)
    change = random.standard_normal(table.probe.shape) * CHANGE / math.sqrt(table.probe.shape[1])
    values = table.probe.astype(np.float64) + change
    lengths = np.linalg.norm(values, axis=1)
    moved = replace(table, probe=(values / lengths[:, None]).astype(np.float16), scale=(table.scale * lengths).astype(np.float32))
    name = f"later{random.integers(1 << 40)}"
    added, _ = timed(lambda: registry.add(name, replace(base, matrices=moved)))
    try:
        page, answer = timed(lambda: registry.tree(name, depth=PAGE))
        edges = [(edge.parent, edge.child, edge.relation) for edge in answer.edges if name in (edge.parent, edge.child)]
    finally:
        registry.remove(name)
    return {"add_seconds": added, "page_seconds": page, "shown": len(answer.models), "its_edges": len(edges)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="*", default=[300])
    parser.add_argument("--around", type=int, nargs="*", default=[100_000])
    parser.add_argument("--folder", type=Path, help="where the registries are made, and kept")
    parser.add_argument("--seed", type=int, default=0, help="chooses the models asked around: others for a registry that was asked before")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"family": SIZE, "whole": [], "around_one": []}
    with tempfile.TemporaryDirectory() if arguments.folder is None else nullcontext(arguments.folder) as folder:
        for models in arguments.models:
            found["whole"].append(whole(models, Path(folder)))
            print(found["whole"][-1], flush=True)
        for models in arguments.around:
            found["around_one"].append(around(models, Path(folder), arguments.seed))
            print(found["around_one"][-1], flush=True)
    write_result("tree_scale", found, out=arguments.out)


if __name__ == "__main__":
    main()
