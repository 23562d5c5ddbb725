"""How many pairs of tensors are made among models that share nothing: none may be, at either level.

    python -m benchmarks.counterparts.strangers [--pairs 20000] [--level full]

Three sets: every two models of the starter registry but those that are known to be related (real weights, many architectures); drawn
models of one shape, whose rows are of uneven size as training leaves them, so that every tensor of one could stand for many of the other;
and (level full) drawn language models, one of two under random letters and without a config, so that it is read in every way that its
shapes allow. These share a tokenizer and what it puts into weights: token tables with common features, and in every layer a direction that
tells the same tokens apart, weaker or stronger with depth alike in all models. Writes results/counterparts.json.
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
import numpy.typing as npt
import safetensors.numpy
from msgspec.structs import replace

from benchmarks.common.real_pairs import known_pairs
from benchmarks.common.real_weights import read_table
from benchmarks.common.results import write_result
from benchmarks.counterparts.random_names import SEED, Renamed
from modelkin_data import starter
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_indexer.spec import LEVELS
from modelkin_registry.counterparts.matching import matched
from modelkin_registry.counterparts.pairing import NAME
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.registry import Registry

LAYERS, HIDDEN, NEURONS = 8, 64, 96
SHAPES = {"q": (HIDDEN, HIDDEN), "k": (HIDDEN, HIDDEN), "up": (NEURONS, HIDDEN), "down": (HIDDEN, NEURONS)}
TOKENS, FEATURES, DEPTH = 512, 8, 5  # of drawn language models: tokens, what all tables tell of them, layers
COMMON = 3.0  # length of the common direction in the deepest layer beside that of a row's noise
WEAKLY, STRONGLY = "language models without names", "language models without names, much in common"
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


def language_model(seed: int, common: float, folder: Path) -> tuple[Fingerprint, Fingerprint]:
    """One that shares no number with that of another seed, but a tokenizer: under its names, and under none."""
    random, shared = np.random.default_rng(seed), np.random.default_rng(0)
    features, told = shared.standard_normal((TOKENS, FEATURES)), shared.standard_normal(TOKENS)
    table = random.standard_normal((TOKENS, HIDDEN)) + features @ random.standard_normal((FEATURES, HIDDEN))
    direction = np.linalg.pinv(table) @ told
    direction /= np.linalg.norm(direction)

    def matrix(rows: int, columns: int, layer: int) -> npt.NDArray[np.float32]:
        noise = random.standard_normal((rows, columns))
        strength = common * (layer + random.uniform(0, 0.5)) / DEPTH
        facing = random.standard_normal(rows if columns == HIDDEN else columns)
        along = np.outer(facing, direction) if columns == HIDDEN else np.outer(direction, facing)
        return np.asarray(noise + strength * along, np.float32)

    tensors = {"model.embed_tokens.weight": table.astype(np.float32), "model.norm.weight": np.ones(HIDDEN, np.float32)}
    for layer in range(DEPTH):
        at = f"model.layers.{layer}."
        for name in ("q", "k", "v", "o"):
            tensors[f"{at}self_attn.{name}_proj.weight"] = matrix(HIDDEN, HIDDEN, layer)
        for name in ("gate", "up"):
            tensors[f"{at}mlp.{name}_proj.weight"] = matrix(NEURONS, HIDDEN, layer)
        tensors[f"{at}mlp.down_proj.weight"] = matrix(HIDDEN, NEURONS, layer)
        for name in ("input", "post_attention"):
            tensors[f"{at}{name}_layernorm.weight"] = (1 + 0.1 * random.standard_normal(HIDDEN)).astype(np.float32)
    path = folder / f"{seed}.safetensors"
    safetensors.numpy.save_file(tensors, path)
    source = open_source(path)
    try:
        return fingerprint_source(source), fingerprint_source(Renamed(source, str(seed)))
    finally:
        source.close()


def without_names(count: int, common: float) -> dict[str, Any]:
    """Pairs of as many models and themselves under no names; and how many of these find themselves, which shows that the step works."""
    each = int(np.ceil(np.sqrt(count)))
    with tempfile.TemporaryDirectory() as folder:
        both = [language_model(seed, common, Path(folder)) for seed in range(each)]
    named = {f"named {seed}": one for seed, (one, _) in enumerate(both)}
    nameless = {f"nameless {seed}": replace(one, matrices=_without_coordinates(one.matrices)) for seed, (_, one) in enumerate(both)}
    pairs = ((a, b) for a in nameless for b in named if a.split()[1] != b.split()[1])
    found = made(islice(pairs, count), named | nameless)
    own = [len(matched(nameless[f"nameless {seed}"], named[f"named {seed}"], ALONE).matrices) for seed in range(each)]
    return found | {"itself": {"models": each, "found": sum(map(bool, own)), "pairs of tensors": sum(own)}}


def _without_coordinates(table: Matrices) -> Matrices:
    """A table of a model whose stream was turned: neither its probe sketches nor its digests are those of what it was."""
    random = np.random.default_rng(SEED)
    units = random.standard_normal(table.probe.shape)
    return replace(
        table,
        probe=(units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float16),
        numbers=random.integers(1, 1 << 63, table.numbers.shape, np.uint64),
    )


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
    parser.add_argument("--pairs", type=int, default=20_000, help="of drawn models, a quarter of them of language models without names")
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
    if "full" in (args.level or LEVELS):
        for name, common in ((WEAKLY, 0.0), (STRONGLY, COMMON)):
            results[name] = without_names(args.pairs // 4, common)
    for name, found in results.items():
        print(name, found)
    write_result("counterparts", results, out=args.out)


if __name__ == "__main__":
    main()
