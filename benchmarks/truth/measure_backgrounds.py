"""What unrelated models share: the spread of a family's mean cosine between pairs of strangers, beyond sketch noise.

    python -m benchmarks.truth.measure_backgrounds BENCH_DIR [--universe dev] [--weights DIR]

Pairs are the unrelated stored models of a lineage universe, and, with --weights (as benchmarks/truth/real_models.py keeps them), public
models of different packages of which nothing is known that they have in common (common/real_pairs.py). Writes results/backgrounds.json:
for each channel and family the number of pairs, mean, standard deviation and largest r, and the spread beyond noise;
data/modelkin_data/backgrounds.json must not be below it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.common.real_pairs import known_pairs
from benchmarks.common.real_weights import RealModel, fetch, read_table
from benchmarks.common.results import write_result
from modelkin_data import backgrounds
from modelkin_indexer.errors import SourceError
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.places import SHOWN_AS
from modelkin_registry.relations.pairs import hold

Sample = tuple[float, float]  # mean cosine less its null's mean, and the sketch noise of that mean


def unrelated_pairs(universe: Path) -> list[tuple[str, str]]:
    """Stored models that share no weights with each other, by the universe's own truth."""
    truth = json.loads((universe / "truth.json").read_text())
    stored = {folder.name for folder in (universe / "models").iterdir()}
    pairs = [(p["parent"], p["child"]) for p in truth["pairs"] if p["expect"] == "unrelated"]
    return [(a, b) for a, b in pairs if a in stored and b in stored and not {"-lora", "-traj"} & {a[-5:], a[-6:-1], b[-5:], b[-6:-1]}]


def public_models(weights: Path) -> list[tuple[RealModel, Fingerprint]]:
    """Those that can be read."""
    models = read_table().models
    paths, found = fetch(models, weights), []
    for model in models:
        with suppress(SourceError), closing(open_source(paths[model.id])) as source:
            found.append((model, fingerprint_source(source)))
    return found


def strangers(models: Sequence[RealModel]) -> list[tuple[str, str]]:
    """Pairs of models of different packages that nobody knows to have anything in common, and whose packages have not either."""
    package = {model.id: model.package for model in models}
    akin = {frozenset((package[a], package[b])) for a, b in known_pairs() if a in package and b in package}
    apart = ((a, b) for a, b in combinations(package, 2) if package[a] != package[b])
    return [(a, b) for a, b in apart if frozenset((package[a], package[b])) not in akin]


def samples(a: Fingerprint, b: Fingerprint) -> dict[tuple[str, str], Sample]:
    """Of one pair: (channel, family) -> its mean cosine beyond the null, with noise."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for measured in hold(a, b, "b", ALONE).measured:
        for place in (*measured.places, *measured.vectors):
            channel = "probe" if place.channel == "vector" else place.channel
            if channel != "probe" and place.null.mean == 0.0:
                continue  # no neighbours to stand out from: judged by LONE_R, not by this spread
            groups[channel, SHOWN_AS.get(place.family, place.family)].append((place.cosine - place.null.mean, place.null.sd))
    return {
        key: (float(np.mean([r for r, _ in found])), math.sqrt(sum(sd**2 for _, sd in found)) / len(found)) for key, found in groups.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", type=Path)
    parser.add_argument("--universe", default="dev")
    parser.add_argument("--weights", type=Path)
    args = parser.parse_args()
    universe = args.bench / args.universe
    pairs = unrelated_pairs(universe)
    folders = {name: universe / "models" / name for pair in pairs for name in pair}
    models = {name: fingerprint_source(open_source(path)) for name, path in folders.items()}
    if args.weights:
        public = public_models(args.weights)
        models |= {one.id: fingerprint for one, fingerprint in public}
        pairs += strangers([one for one, _ in public])
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for a, b in pairs:
        for key, sample in samples(models[a], models[b]).items():
            found[key].append(sample)
    table = {}
    for (channel, family), values in sorted(found.items()):
        r, noise = np.array(values).T
        beyond = math.sqrt(max(float(np.mean(r**2 - noise**2)), 0.0))
        shipped = backgrounds.between_models(family, channel)
        table[f"{channel} {family}"] = {
            "pairs": len(values), "mean": round(float(r.mean()), 4), "sd": round(float(r.std()), 4), "largest": round(float(r.max()), 4),
            "beyond_noise": round(beyond, 4), "shipped": shipped, "enough": beyond <= shipped,
        }  # fmt: skip
        print(f"{channel:9}{family:11}{len(values):5} pairs  mean {r.mean():+.3f}  beyond noise {beyond:.3f}  shipped {shipped}")
    write_result("backgrounds", table)


if __name__ == "__main__":
    main()
