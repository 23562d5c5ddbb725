"""How many pairs of tensors are made among models that share nothing: none may be, at either level.

    python -m benchmarks.counterparts.strangers [--pairs 20000] [--level full]

Two sets: every two models of the starter registry but those that are known to be related (real weights, many architectures); and drawn
models of one shape, whose rows are of uneven size as training leaves them, so that every tensor of one could stand for many of the other.
Writes results/counterparts.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from benchmarks.common.real_pairs import known_pairs
from benchmarks.common.real_weights import read_table
from benchmarks.common.results import write_result
from modelkin_data import starter
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import LEVELS
from modelkin_registry.counterparts.matching import matched
from modelkin_registry.counterparts.pairing import NAME
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry

LAYERS, HIDDEN, NEURONS = 8, 64, 96
SHAPES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "up": (NEURONS, HIDDEN), "down": (HIDDEN, NEURONS)}
UNEVEN = 0.4  # sd of the logarithms of the rows' sizes: trained layers have 0.1 to 0.6


def drawn(seed: int, level: str, folder: Path) -> Fingerprint:
    """A model that shares nothing with one of another seed, under names that tell nothing."""
    random = np.random.default_rng(seed)
    tensors = {}
    for number in range(LAYERS):
        for role, shape in SHAPES.items():
            sizes = np.exp(UNEVEN * random.standard_normal((shape[0], 1)))
            tensors[f"{role}{number}x"] = (sizes * random.standard_normal(shape)).astype(np.float32)
        tensors[f"gain{number}x"] = (1 + 0.1 * random.standard_normal(HIDDEN)).astype(np.float32)
    path = folder / f"{seed}.safetensors"
    safetensors.numpy.save_file(tensors, path)
    source = open_source(path)
    try:
        return fingerprint_source(source, level=level)
    finally:
        source.close()


def real() -> tuple[dict[str, Fingerprint], set[frozenset[str]]]:
    """The starter registry's models by name, and which of them are related."""
    names = {model.id: model.name for model in read_table().models}
    packaged = starter.path()
    assert packaged is not None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "starter.db"
        copy.write_bytes(packaged.read_bytes())
        with Registry.open(copy) as registry:
            found = {one.model: registry.get(one.model) for one in registry.list()}
    kin = {frozenset((names[a], names[b])) for a, b in known_pairs() if a in names and b in names}
    return found, kin


def made(pairs: Iterable[tuple[str, str]], models: Mapping[str, Fingerprint]) -> dict[str, Any]:
    """Pairs of models looked at, and pairs of tensors that contents made."""
    looked = 0
    ways: Counter[str] = Counter()
    where = []
    for a, b in pairs:
        looked += 1
        found = [pair.found for pair in matched(models[a], models[b], ALONE).matrices if pair.found != NAME]
        if found:
            ways.update(found)
            where.append([a, b, len(found)])
    return {"pairs of models": looked, "pairs of tensors": ways.total(), "by": dict(ways), "where": where}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="of drawn models")
    parser.add_argument("--level", choices=LEVELS, action="append")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    models, kin = real()
    results: dict[str, Any] = {"real": made((pair for pair in combinations(sorted(models), 2) if frozenset(pair) not in kin), models)}
    count = int(np.ceil((1 + np.sqrt(1 + 8 * args.pairs)) / 2))
    for level in args.level or LEVELS:
        with tempfile.TemporaryDirectory() as folder:
            strangers = {str(seed): drawn(seed, level, Path(folder)) for seed in range(count)}
        results[f"drawn, level {level}"] = made(islice(combinations(strangers, 2), args.pairs), strangers)
    for name, found in results.items():
        print(name, found)
    write_result("counterparts", results, out=args.out)


if __name__ == "__main__":
    main()
