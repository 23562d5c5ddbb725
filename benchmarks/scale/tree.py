"""Family trees of a large registry: worked out first, again, after one model more, and around one model.

Models are made in sketch space (`common/sketch_families.py`): families of 20, a base, its children and theirs. Pairs that were held against
each other are kept with the registry, so that the next tree holds only new ones; that it is the tree worked out afresh is a test
(tests/contract/test_every_store_trees.py), and looked at here too. Seconds are of an open registry, the first around a model each time of
one whose family was not looked at before.

    python -m benchmarks.scale.tree --models 1000 --around 10000

Writes results/tree_scale.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common.results import write_result
from benchmarks.common.sketch_families import families
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.tree import TreeAnswer
from modelkin_registry.registry import Registry

SIZE = 20  # models of a family
ASKED = 8  # models around which a tree is asked for
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


def around(models: int, folder: Path) -> dict[str, Any]:
    """Trees around single models of a registry in which none was asked for before."""
    with Registry.open(folder / f"around{models}.db") as registry:
        fill(registry, models)
        step = models // ASKED
        names = [f"m{number:05}" for number in range(step // 2, models - 1, step)][:ASKED]
        asked: list[tuple[float, TreeAnswer]] = [timed(lambda name=name: registry.tree(name)) for name in names]  # type: ignore[misc]
        again = [timed(lambda name=name: registry.tree(name)) for name in names]  # type: ignore[misc]
        assert [answer for _, answer in asked] == [answer for _, answer in again]
        return {
            "models": models,
            "shown": statistics.median(len(answer.models) for _, answer in asked),
            "first_seconds": round(statistics.median(seconds for seconds, _ in asked), 3),
            "again_seconds": round(statistics.median(seconds for seconds, _ in again), 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="*", default=[1000])
    parser.add_argument("--around", type=int, nargs="*", default=[10_000])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"family": SIZE, "whole": [], "around_one": []}
    with tempfile.TemporaryDirectory() as folder:
        for models in arguments.models:
            found["whole"].append(whole(models, Path(folder)))
            print(found["whole"][-1], flush=True)
        for models in arguments.around:
            found["around_one"].append(around(models, Path(folder)))
            print(found["around_one"][-1], flush=True)
    write_result("tree_scale", found, out=arguments.out)


if __name__ == "__main__":
    main()
