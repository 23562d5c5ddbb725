"""Are p-values what they say? 20,000 pairs of unrelated models of equal shape: how often is p below 0.1, 0.05, 0.01, 0.001?

    python -m benchmarks.truth.unrelated_pairs UNIVERSE_DIR [--pairs 20000] [--twins 14] [--strangers DIR]

Pairs are trained strangers of a lineage universe (by its truth.json; with --strangers also each two folders of DIR, as
benchmarks/truth/train_strangers.py makes them), and twins of its models (benchmarks/common/twins.py): twin against twin of one model, of
two models of one architecture, and against the models themselves. None of these shares weights with the other. Valid p-values lie below x
in at most a share x of the pairs. Writes results/unrelated_pairs.json, and results/unrelated_pairs.svg with the share of p <= x for each
x.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from msgspec import Struct

from benchmarks.common.curves import Curve, chart
from benchmarks.common.results import write_page, write_result
from benchmarks.common.twins import KINDS, load, save, twin
from modelkin_data import backgrounds
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.families import by_family, channel_result
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import hold

LIMITS = (0.1, 0.05, 0.01, 0.001)


class Model(Struct, frozen=True):
    """A fingerprint with what it is: `lineage` is whom it shares weights with, `kind` a twin's kind or "trained"."""

    fingerprint: Fingerprint
    name: str
    lineage: str
    kind: str


def trained_pairs(universe: Path) -> list[tuple[str, str]]:
    """Stored models that share no weights, by the universe's own truth."""
    stored = {folder.name for folder in (universe / "models").iterdir() if not folder.name.endswith("-lora") and "-traj" not in folder.name}
    pairs = [(p["parent"], p["child"]) for p in json.loads((universe / "truth.json").read_text())["pairs"] if p["expect"] == "unrelated"]
    return [(a, b) for a, b in pairs if a in stored and b in stored]


def shapes(fingerprint: Fingerprint) -> tuple[object, ...]:
    """What two models of equal shape agree in."""
    m, v = fingerprint.matrices, fingerprint.vectors
    return (m.places, m.rows.tobytes(), m.columns.tobytes(), v.places, v.length.tobytes())


def twins_of(folder: Path, original: Fingerprint, count: int, work: Path) -> Iterator[Model]:
    """`count` twins of each kind."""
    tensors = load(folder)
    for kind in KINDS:
        for at in range(count):
            seed = hash_of(f"{folder.name}/{kind}/{at}")
            path = save(twin(tensors, kind, seed, original.about.constants or {}), folder, work / "twin")
            yield Model(fingerprint_source(open_source(path)), f"{folder.name}/{kind}/{at}", f"{folder.name}/{kind}/{at}", kind)


def hash_of(text: str) -> int:
    return random.Random(text).getrandbits(31)


def drawn_pairs(models: Iterable[Model], wanted: int) -> list[tuple[Model, Model]]:
    """Pairs of equal shape with at least one twin, evenly over the shapes."""
    by_shape: dict[tuple[object, ...], list[Model]] = defaultdict(list)
    for model in models:
        by_shape[shapes(model.fingerprint)].append(model)
    groups = [[(a, b) for a, b in combinations(group, 2) if {a.kind, b.kind} != {"trained"}] for group in by_shape.values()]
    draw = random.Random("pairs")
    for group in groups:
        draw.shuffle(group)
    found: list[tuple[Model, Model]] = []
    while len(found) < wanted and any(groups):
        found += [group.pop() for group in groups if group]
    return found[:wanted]


class Tally:
    """p-values by group."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def table(self) -> dict[str, dict[str, float]]:
        return {name: shares(values) for name, values in sorted(self.values.items())}


def shares(values: list[float]) -> dict[str, float]:
    """Number of p-values and the share at or below each limit."""
    found = np.array(values)
    return {"p_values": len(values), **{f"p<={limit}": round(float(np.mean(found <= limit)), 5) for limit in LIMITS}}


def beyond_noise(found: list[tuple[float, float, float]]) -> dict[str, float]:
    """The spread of r between pairs that sketch noise does not explain, and what is shipped for it."""
    r, sd, shipped = np.array(found).T
    return {"beyond_noise": round(math.sqrt(max(float(np.mean(r**2 - sd**2 + shipped**2)), 0.0)), 4), "shipped": float(shipped[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("universe", type=Path)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--twins", type=int, default=14, help="of each model and kind")
    parser.add_argument("--strangers", type=Path, help="a folder of models trained apart")
    args = parser.parse_args()
    began = time.perf_counter()
    stored = args.universe / "models"
    named = trained_pairs(args.universe)
    folders = {name: stored / name for pair in named for name in pair}
    if args.strangers:
        more = sorted(folder for folder in args.strangers.iterdir() if folder.is_dir())
        named += [(a.name, b.name) for a, b in combinations(more, 2)]
        folders |= {folder.name: folder for folder in more}
    trained = {name: Model(fingerprint_source(open_source(path)), name, name, "trained") for name, path in folders.items()}
    alike = [(trained[a], trained[b]) for a, b in named]
    roots = [name for name in folders if "-" not in name and name != "VL"]  # one of each independent training in the universe
    with tempfile.TemporaryDirectory() as work:
        made = [t for name in roots for t in twins_of(folders[name], trained[name].fingerprint, args.twins, Path(work))]
    pairs = alike + drawn_pairs([*(trained[name] for name in roots), *made], args.pairs - len(alike))
    indexed = time.perf_counter()
    spreads: dict[str, list[tuple[float, float, float]]] = defaultdict(list)  # r less its null's mean, sd of the null, shipped part of it
    tallies = {name: Tally() for name in ("channel", "family", "kind", "all")}
    relations: Counter[str] = Counter()
    judged: list[dict[str, object]] = []
    smallest = 1.0
    for a, b in pairs:
        held = hold(a.fingerprint, b.fingerprint, b.name, ALONE)
        relative = held.kin().relative
        relations[relative.relation] += 1
        kinds = "+".join(sorted({a.kind, b.kind}))
        if relative.p_value is not None:
            tallies["all"].values["told of the pair"].append(relative.p_value)
            tallies["kind"].values[kinds].append(relative.p_value)
            smallest = min(smallest, relative.p_value)
        if is_descent(relative) or relative.relation in ("shared initialisation", "norms only"):
            judged.append({"a": a.name, "b": b.name, "relation": relative.relation, "p_value": relative.p_value})
        for measured in held.measured:
            for family, places in by_family((*measured.places, *measured.vectors)).items():
                for channel in ("vector", *CHANNELS):
                    if chosen := [place for place in places if place.channel == channel]:
                        result = channel_result(family, "probe" if channel == "vector" else channel, chosen, ALONE)
                        p = math.erfc(abs(result.z) / math.sqrt(2.0))
                        name = f"{family} (vectors)" if channel == "vector" else family
                        tallies["family"].values[f"{channel} {name}"].append(p)
                        shipped = backgrounds.between_models(family, "probe" if channel == "vector" else channel)
                        spreads[f"{channel} {name}"].append((result.r - result.null.mean, result.null.sd, shipped))
                        tallies["channel"].values[channel].append(p)
    families = {name: {**row, **beyond_noise(spreads[name])} for name, row in tallies["family"].table().items()}
    answer = {
        "about": "Share of p-values at or below each limit, one two-sided test each; `told` ones are corrected for channels and families.",
        "models": {"trained": len(trained), "twins": len(made)},
        "pairs": len(pairs),
        "trained_pairs": len(alike),
        "relations": dict(relations.most_common()),
        "not_unrelated": judged,
        "smallest_p_told": smallest,
        "told": {**tallies["all"].table(), **tallies["kind"].table()},
        "by_channel": tallies["channel"].table(),
        "by_family": families,
        "seconds": {"indexing": round(indexed - began, 1), "comparing": round(time.perf_counter() - indexed, 1)},
    }
    write_result("unrelated_pairs", answer)
    grid = np.logspace(-4, 0, 81)
    drawn = [("told of the pair", tallies["all"].values["told of the pair"]), *tallies["channel"].values.items()]
    curves = [Curve(name, grid, [float(np.mean(np.array(values) <= x)) for x in grid]) for name, values in drawn]
    curves.append(Curve("uniform", grid, grid, dashed=True))
    svg = chart(curves, f"p-values of {len(pairs):,} unrelated pairs", "p", "share of pairs at or below p", log=(True, True), y=(1e-5, 1.0))
    write_page("unrelated_pairs", ".svg", svg)
    print(json.dumps({name: answer[name] for name in ("pairs", "relations", "told", "by_channel", "by_family", "seconds")}, indent=1))


if __name__ == "__main__":
    main()
