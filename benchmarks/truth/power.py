"""How much has to be kept for a copy to be found? Found share against mixing, noise, continued training and layers kept.

    python -m benchmarks.truth.power UNIVERSE_DIR [--seeds 3] [--peers DIR]

Children are made of pairs of strangers of equal shape in a lineage universe (parent and host, both ways):

mixing     a random share of the parent's numbers in the host, tensor by tensor (0.5 to 50 %)
noise      the parent with normal noise of so many times each tensor's standard deviation
training   the parent moved so many times along a real training of its own (parent to its heaviest child and beyond)
layers     so many of the parent's layers, on their places in the host

Found is: by modelkin any relation of descent; by one channel any informative family that it alone would show, at the same thresholds;
by the exact comparison any matrix that stands out (first seed only); by modelDNA probability 0.9 (first seed only; --peers: the --work of
peers.py). Children that share nothing (0) must not be found.

A mix of two strangers' numbers keeps no norms and has a slope below one: against one parent alone it is told as `shared
initialisation`, with its p-value, not as descent.

Writes results/power.json, power.md and power.svg.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch

from benchmarks.common.curves import Curve, chart
from benchmarks.common.results import write_page, write_result
from benchmarks.common.twins import Tensors, load, save
from benchmarks.truth.peers import theirs
from modelkin_indexer.exact.comparison import ExactOptions, read_exact
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.families import by_family, channel_result
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.places import FAMILY_P, INFORMATIVE
from modelkin_registry.exact.judging import judge_exact
from modelkin_registry.relations.pairs import hold

STRANGERS = (("L1", "L2"), ("L2", "L1"), ("G", "S"), ("S", "G"), ("N", "N2"), ("N2", "N"))
TRAININGS = (("L1", "L1-heavy"), ("L1", "L1-ftB"), ("G", "G-ftB"))
STEPS = {
    "mixing": (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
    "noise": (0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0),
    "training": (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0),
    "layers": (0.0, 1.0, 2.0, 3.0),
}
LAYER = re.compile(r"(?:layers|h)\.(\d+)\.")
LARGE = 1024  # numbers from which a tensor is mixed, so that vectors are the host's


def mixed(parent: Tensors, host: Tensors, share: float, draw: torch.Generator) -> Tensors:
    return {
        name: torch.where(torch.rand(own.shape, generator=draw) < share, parent[name], own) if _is_weight(own) else own
        for name, own in host.items()
    }


def noised(parent: Tensors, size: float, draw: torch.Generator) -> Tensors:
    return {
        name: (own.float() + size * own.float().std() * torch.randn(own.shape, generator=draw)).to(own.dtype) if _is_weight(own) else own
        for name, own in parent.items()
    }


def moved(parent: Tensors, child: Tensors, times: float) -> Tensors:
    return {
        name: (own.float() + times * (child[name].float() - own.float())).to(own.dtype) if own.is_floating_point() else own
        for name, own in parent.items()
    }


def with_layers(parent: Tensors, host: Tensors, count: int, draw: torch.Generator) -> Tensors:
    numbers = sorted({int(found[1]) for name in host if (found := LAYER.search(name))})
    kept = {numbers[at] for at in torch.randperm(len(numbers), generator=draw)[:count].tolist()}
    return {name: parent[name] if (found := LAYER.search(name)) and int(found[1]) in kept else own for name, own in host.items()}


def _is_weight(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() >= LARGE


def children(models: dict[str, Tensors], seed: int) -> Iterator[tuple[str, float, str, Tensors]]:
    """(axis, step, parent, tensors) of every child of one seed."""
    for axis, steps in STEPS.items():
        for step in steps:
            for at, (parent, other) in enumerate(TRAININGS if axis == "training" else STRANGERS):
                if axis == "training" and seed:
                    continue  # nothing is drawn
                draw = torch.Generator().manual_seed(1000 * seed + at)
                own, others = models[parent], models[other]
                made = {
                    "mixing": lambda o=own, h=others, s=step, d=draw: mixed(o, h, s, d),
                    "noise": lambda o=own, s=step, d=draw: noised(o, s, d),
                    "training": lambda o=own, h=others, s=step: moved(o, h, s),
                    "layers": lambda o=own, h=others, s=step, d=draw: with_layers(o, h, int(s), d),
                }[axis]()
                yield axis, step, parent, made


def found_by(child: Fingerprint, parent: Fingerprint) -> dict[str, bool]:
    held = hold(child, parent, "parent", ALONE)
    found = {"modelkin": is_descent(held.kin().relative), **dict.fromkeys(CHANNELS, False)}
    for measured in held.measured:
        for family, places in by_family(measured.places).items():
            for channel in CHANNELS:
                if family in INFORMATIVE and (chosen := [p for p in places if p.channel == channel]):
                    result = channel_result(family, channel, chosen, ALONE)
                    found[channel] |= result.strong and result.p_value <= FAMILY_P
    return found


def found_exactly(child: Path, parent: Path) -> bool:
    with closing(open_source(child)) as a, closing(open_source(parent)) as b:
        answer = judge_exact(read_exact(a, b, ExactOptions()), {})
    return any(group.informative and (group.shared or group.equal) for group in answer.families)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("universe", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", type=Path)
    args = parser.parse_args()
    stored = args.universe / "models"
    names = {name for pair in (*STRANGERS, *TRAININGS) for name in pair}
    models = {name: load(stored / name) for name in names}
    parents = {name: fingerprint_source(open_source(stored / name)) for name in names}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as work:
        pairs = []
        for seed in range(args.seeds):
            for at, (axis, step, parent, tensors) in enumerate(children(models, seed)):
                folder = save(tensors, stored / parent, Path(work) / f"{seed}-{at}")
                row = {
                    "axis": axis,
                    "step": step,
                    "parent": parent,
                    "seed": seed,
                    **found_by(fingerprint_source(open_source(folder)), parents[parent]),
                }
                if seed == 0:
                    row["exact"] = found_exactly(folder, stored / parent)
                    pairs.append((folder, stored / parent))
                else:
                    shutil.rmtree(folder)
                rows.append(row)
        if args.peers:
            for row, answer in zip((r for r in rows if r["seed"] == 0), theirs("modeldna", args.peers, pairs), strict=True):
                row["modelDNA"] = bool(answer["related"])
    tools = ("modelkin", *CHANNELS, "exact", *(("modelDNA",) if args.peers else ()))
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for axis, steps in STEPS.items():
        for step in steps:
            here = [r for r in rows if (r["axis"], r["step"]) == (axis, step)]
            shares = {tool: [r[tool] for r in here if tool in r] for tool in tools}
            table[axis][f"{step:g}"] = {tool: round(sum(map(bool, found)) / len(found), 3) for tool, found in shares.items()} | {
                "children": len(here)
            }
    write_result("power", {"found_share": table, "children": rows})
    head = (__doc__ or "").split("\n\n")
    parts = [f"# {head[0]}", "\n\n".join(head[2:]).rsplit("Writes", 1)[0].strip()]
    for axis, found in table.items():
        lines = [f"| {axis} | {' | '.join(tools)} | children |", "|---" * (len(tools) + 2) + "|"]
        lines += [
            f"| {step} | " + " | ".join(f"{shares[tool]:.2f}" for tool in tools) + f" | {shares['children']} |"
            for step, shares in found.items()
        ]
        parts.append("\n".join(lines))
    write_page("power", ".md", "\n\n".join(parts) + "\n")
    mixing = [(float(step), shares) for step, shares in table["mixing"].items() if float(step)]
    curves = [Curve(tool, [step for step, _ in mixing], [shares[tool] for _, shares in mixing]) for tool in tools]
    write_page("power", ".svg", chart(curves, "Found by the share of weights inherited", "share inherited", "found", log=(True, False)))
    print("\n\n".join(parts[2:]))


if __name__ == "__main__":
    main()
