"""Runs that share a random start and nothing learned, and runs that do share training: what is said of each, at both levels.

    python -m benchmarks.truth.common_start [--quick]

Trains small networks of seven kinds from public seeds (torch's own starts and five laws of drawing): on other tasks, on parts of one
task, for several lengths, with and without weight decay, and the first layers of networks of other depth; classifiers of the same
pictures from other seeds (a layer that reads what all read); and LoRA adapters of one seed on one base. Every pair is held against each
other as `compare` does. As controls: trained on from a trained parent, siblings, frozen layers, long further training, merged adapters,
rounded, pruned and half-precision copies, neurons re-ordered, adapters trained on, refactored and rounded. Writes
results/common_start.json: relations by kind of pair, the largest figures of pairs that descent is decided by, every accusation by name,
and how much of each control is found (power). Takes about
ten minutes of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from benchmarks.common import small_adapters, small_nets
from benchmarks.common.results import write_result
from benchmarks.common.small_nets import KINDS, LAWS, Kind, State, run, start, state, trained
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import LEVELS
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.families import judge_components
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations import descent
from modelkin_registry.relations.pairs import Held, hold

SEEDS = (0, 42, 1234)
ADAPTER_SEEDS = (0, 42, 3407)
Pair = tuple[str, str, str]  # what it is, and the two models' names


class Tally:
    """Relations by what the pair is, and the pairs that were called what they are not."""

    def __init__(self) -> None:
        self.relations: dict[str, Counter[str]] = defaultdict(Counter)
        self.accused: list[str] = []
        self.largest: dict[str, dict[str, float]] = defaultdict(dict)

    def take(self, what: str, relation: str, name: str, *, control: bool) -> None:
        self.relations[what][relation] += 1
        if not control and relation not in DESCENT_FREE:
            self.accused.append(f"{what}: {name}: {relation}")

    def reach(self, what: str, held: Held) -> None:
        """Keep the largest figures that descent is decided by (relations/descent.py): what the thresholds there rest on."""
        largest = self.largest[what]
        for name, value in figures(held):
            largest[name] = max(largest.get(name, -math.inf), round(value, 4))

    def plain(self) -> dict[str, object]:
        return {
            what: {
                **({"largest": self.largest[what]} if what in self.largest else {}),
                "pairs": sum(found.values()),
                "descent": sum(n for relation, n in found.items() if relation not in DESCENT_FREE),
                "relations": dict(sorted(found.items())),
            }
            for what, found in sorted(self.relations.items())
        }


def figures(held: Held) -> Iterator[tuple[str, float]]:
    """Shares of what was learned in common, by how much was learned and in how many matrices; of adapters the mean r of changes."""
    for measured in held.measured:
        pair = judge_components(measured, ALONE)
        kept = descent.kept_places(pair)
        if pair.changes_only:
            if len(kept) >= descent.FEWEST:
                yield "mean r of changes", float(np.mean([place.cosine for place in kept]))
        elif (common := descent.learned_in_common(pair, kept)).matrices:
            amount = "much" if common.amount >= descent.MUCH else "little" if common.amount >= descent.LITTLE else "less"
            yield f"share, {amount} learned in {'one matrix' if common.matrices < descent.FEWEST else 'several'}", common.share
            if common.matrices >= descent.FEWEST:
                yield "lesser of the share in several and of r of gains", min(common.share, descent.mean_of_gains(pair))
        if not pair.changes_only:
            yield "r of gains", descent.mean_of_gains(pair)
            for parent in (pair.query, pair.relative) if kept else ():
                taken = descent.taken_over(pair, kept, parent)
                if taken.energy >= descent.LEARNED_ENERGY and descent.mean_of_gains(pair):
                    yield "least part of what one side's matrices learned in the other, with gains", taken.least


class Models:
    """Fingerprints of models by name, at both levels."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._known = folder, dict[tuple[str, str], Fingerprint]()

    def add(self, name: str, tensors: State, files: Mapping[str, str] | None = None) -> None:
        """Write the tensors (and further files), read them, and delete them again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = "adapter_model.safetensors" if files else "model.safetensors"
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, self._folder / file)
        for other, text in (files or {}).items():
            (self._folder / other).write_text(text)
        for level in LEVELS:
            source = open_source(self._folder)
            self._known[name, level] = fingerprint_source(source, level=level, threads=1)
            source.close()
        for path in self._folder.iterdir():
            path.unlink()

    def compare(self, pairs: list[Pair], tallies: Mapping[str, Tally], label: str, *, control: bool) -> None:
        """Hold each pair against each other, every other one the other way round."""
        for number, (what, one, other) in enumerate(pairs):
            a, b = (one, other) if number % 2 else (other, one)
            for level, tally in tallies.items():
                held = hold(self._known[a, level], self._known[b, level], b, ALONE)
                tally.take(what, held.kin().relative.relation, f"{label} {a} ~ {b}", control=control)
                if not control:
                    tally.reach(what, held)


def runs_of(kind: Kind, seed: int, law: str, decay: float) -> Iterator[tuple[str, torch.nn.Module]]:
    """The start; two tasks and two parts of a third, each at several lengths."""
    untrained = start(kind, seed, law)
    yield "start", untrained
    for name, task, part in (("task1", 1, 0), ("task2", 2, 0), ("part1", 3, 1), ("part2", 3, 2)):
        for length, net in run(untrained, kind.data(100 * seed + task, part), kind.lengths, kind.rate, 10 * task + part, decay):
            yield f"{name}-{length}", net


def strangers_of(names: list[str]) -> list[Pair]:
    """All pairs of runs of one start that share no training."""
    found = []
    for one, other in itertools.combinations(names, 2):
        a, b = one.split("-")[0], other.split("-")[0]
        if "start" in (a, b):
            found.append(("a run and the start that its seed gives", one, other))
        elif a != b:
            same = a.startswith("part") and b.startswith("part")
            found.append(("parts of one task, from one start" if same else "other tasks, from one start", one, other))
    return found


def descendants(kind: Kind, seed: int, parent: str, net: torch.nn.Module) -> Iterator[tuple[str, str, State]]:
    """What is made from a trained network: (kind of control, name, weights)."""
    steps, task = kind.lengths[1], 100 * seed + 50
    for n, rate in enumerate((kind.rate, kind.rate / 3)):
        yield f"trained on for {steps} steps", f"{parent}-child{n}", state(trained(net, kind.data(task + n, 0), steps, rate, 500 + n))
    yield "trained on as long as its parent", f"{parent}-long", state(trained(net, kind.data(task, 0), kind.lengths[-1], kind.rate, 510))
    yield "trained on with half its layers frozen", f"{parent}-frozen", state(_half_frozen(net, kind, task))
    weights = state(net)
    yield "a merged adapter", f"{parent}-lora", small_adapters.merged(weights, seed)
    yield "rounded to 6 bits", f"{parent}-rounded", {k: _rounded(v) if v.ndim > 1 else v for k, v in weights.items()}
    yield "a third of it pruned", f"{parent}-pruned", {k: _pruned(v) if v.ndim > 1 else v for k, v in weights.items()}
    yield "half precision", f"{parent}-half", {k: v.astype(np.float16) for k, v in weights.items()}


def _half_frozen(net: torch.nn.Module, kind: Kind, task: int) -> torch.nn.Module:
    parameters = list(net.parameters())
    for parameter in parameters[: len(parameters) // 2]:
        parameter.requires_grad_(False)
    tuned = trained(net, kind.data(task, 0), kind.lengths[1], kind.rate, 520)
    for parameter in parameters:
        parameter.requires_grad_(True)
    return tuned


def _rounded(values: np.ndarray) -> np.ndarray:
    step = np.abs(values).max() / 31
    return (np.rint(values / step) * step).astype(np.float32)


def _pruned(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) > np.quantile(np.abs(values), 1 / 3), values, 0).astype(np.float32)


def one_start(kind: Kind, seed: int, law: str, decay: float, models: Models, tallies: Mapping[str, Mapping[str, Tally]]) -> None:
    """All runs of one start, and what descends from the longest run on the first task and from a shorter one."""
    label = f"{kind.name}, {law}, seed {seed}"
    nets = dict(runs_of(kind, seed, law, decay))
    for name, net in nets.items():
        models.add(name, state(net))
    models.compare(strangers_of(list(nets)), tallies["strangers"], label, control=False)
    group = "with norms" if kind.norms else "without norms"
    for length in kind.lengths[-2:]:
        parent, controls = f"task1-{length}", list[Pair]()
        of = f"({group}, parent of {'many' if length == kind.lengths[-1] else 'fewer'} steps)"
        for what, name, weights in descendants(kind, seed, parent, nets[parent]):
            models.add(name, weights)
            controls.append((f"{what} {of}", name, parent))
        controls.append((f"siblings {of}", controls[0][1], controls[1][1]))
        models.compare(controls, tallies["controls"], label, control=True)


def other_depths(seed: int, models: Models, tallies: Mapping[str, Mapping[str, Tally]]) -> None:
    """Perceptrons of other depth and other outputs from one seed: their first layers are drawn alike."""
    pairs: list[Pair] = []
    for width in (96, 160):
        names = []
        for depth in (2, 3, 4):
            torch.manual_seed(seed)
            net, data = small_nets.Mlp(64, width, depth, 8 + depth, False), small_nets.points(64, 8 + depth)(700 + depth, 0)
            for length, found in run(net, data, (60, 300), 1e-3, depth):
                models.add(name := f"{width}x{depth}-{length}", state(found))
                names.append((depth, name))
        pairs += [("first layers of one seed, other depth", a, b) for (m, a), (n, b) in itertools.combinations(names, 2) if m != n]
    models.compare(pairs, tallies["strangers"], f"perceptrons, seed {seed}", control=False)


def same_inputs(depth: int, models: Models, tallies: Mapping[str, Mapping[str, Tally]], count: int) -> None:
    """Classifiers of one task from other seeds on other examples, and each with its neurons in another order."""
    for what, data in (("pictures", small_nets.pictures(8)), ("points", small_nets.points(64, 10))):
        names, moved = [], []
        for seed in range(count):
            torch.manual_seed(300 + seed)
            net = trained(small_nets.Mlp(64, 96, depth, 10, False), data(5, seed), 600, 1e-3, seed)
            models.add(name := f"{what}-{depth}-{seed}", state(net))
            names.append(name)
            if seed < 4:
                models.add(f"{name}-moved", _neurons_moved(state(net), seed))
                moved.append(("neurons re-ordered (level full)", f"{name}-moved", name))
        label = f"classifiers of {what}, {depth} layers"
        pairs = [("classifiers of one task from other seeds", *two) for two in itertools.combinations(names, 2)]
        models.compare(pairs, tallies["strangers"], label, control=False)
        models.compare(moved, {"full": tallies["controls"]["full"]}, label, control=True)


def _neurons_moved(weights: State, seed: int) -> State:
    rng, found, last = np.random.default_rng(seed), dict(weights), None
    for name in [name for name in weights if name.endswith("weight")]:
        if last is not None:
            found[name] = found[name][:, last]
        if not name.startswith("head"):
            last = rng.permutation(len(found[name]))
            found[name], bias = found[name][last], name.replace("weight", "bias")
            found[bias] = weights[bias][last]
    return found


def adapters(base: torch.nn.Module, kind: Kind, rank: int, seed: int, models: Models, tallies: Mapping[str, Mapping[str, Tally]]) -> None:
    """Adapters of one seed on one base: four tasks, two more with nearly one rule between them, two parts of one; and what descends."""
    lengths, made, pairs = (10, 40, 160, 400), {}, []
    tasks = {"task1": (61, 0), "task2": (62, 0), "task3": (63, 0), "task4": (64, 0), "part1": (65, 1), "part2": (65, 2)}
    for order, (name, (task, part)) in enumerate(tasks.items()):
        begun = small_adapters.drawn(base, rank, seed)
        for length, factors in small_adapters.learned(base, begun, kind.data(task, part), lengths, 1e-3, order).items():
            made[f"{name}-{length}"] = factors
    for name, factors in made.items():
        models.add(name, *small_adapters.stored(factors))
    for one, other in itertools.combinations(made, 2):
        a, b = one.split("-")[0], other.split("-")[0]
        if a != b:
            what = "adapters of one seed, parts of one task" if {a, b} == {"part1", "part2"} else "adapters of one seed, other tasks"
            pairs.append((what, one, other))
    label = f"adapters on a {kind.name}, rank {rank}, seed {seed}"
    models.compare(pairs, tallies["strangers"], label, control=False)
    controls = []
    for length in lengths[-2:]:
        parent = f"task1-{length}"
        children = {
            "adapter trained on": small_adapters.learned(base, made[parent], kind.data(66, 0), (40,), 3e-4, 77)[40],
            "adapter in other factors": small_adapters.refactored(made[parent]),
            "adapter with independent changes (0.3)": small_adapters.noised(made[parent], 0.3, seed),
        }
        for what, factors in children.items():
            models.add(f"{parent} {what}", *small_adapters.stored(factors))
            controls.append((what, f"{parent} {what}", parent))
        models.add(f"{parent} half", *small_adapters.stored(made[parent], torch.float16))
        controls.append(("adapter in half precision", f"{parent} half", parent))
    models.compare(controls, tallies["controls"], label, control=True)


def measure(quick: bool, folder: Path) -> dict[str, object]:
    """All parts, and what was said."""
    tallies = {part: {level: Tally() for level in LEVELS} for part in ("strangers", "controls")}
    models = Models(folder)
    for number, (seed, kind) in enumerate(itertools.product(SEEDS[:1] if quick else SEEDS, KINDS)):
        law = "torch" if seed == SEEDS[0] else LAWS[number % len(LAWS)]
        one_start(kind, seed, law, 0.05 if number % 4 == 3 else 0.0, models, tallies)
        print(kind.name, law, seed, flush=True)
    for seed in SEEDS[:1] if quick else SEEDS:
        other_depths(seed, models, tallies)
    for depth in (1, 2):
        same_inputs(depth, models, tallies, 6 if quick else 18)
    for kind in (KINDS[0], KINDS[-1]):
        base = trained(start(kind, 99, "torch"), kind.data(60, 0), kind.lengths[-1], kind.rate, 99)
        for rank, seed in itertools.product((4, 8), ADAPTER_SEEDS[:1] if quick else ADAPTER_SEEDS):
            adapters(base, kind, rank, seed, models, tallies)
            print("adapters", kind.name, rank, seed, flush=True)
    return {
        part: {level: {**tally.plain(), "accused": tally.accused} for level, tally in levels.items()} for part, levels in tallies.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few pairs; nothing is written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.quick, Path(folder) / "model")
    print(json.dumps(found, indent=1))
    if not args.quick:
        write_result("common_start", found, packages=["torch"])


if __name__ == "__main__":
    main()
