"""Gains of norms that a recipe draws and a seed gives to anybody, beside gains that were learned: how alike the layers' gains are.

    python -m benchmarks.truth.drawn_gains [--quick]

Small residual networks start from one seed with gains of one value, drawn narrowly or widely, or given by a formula, and are trained apart
on tasks of their own. Told of each pair of runs: r of the gains, the share of them that are alike (relations/drawn_gains.py), their width,
and the relation. Beside them the same share and width of every model of the starter registry whose gains are as wide. Writes
results/drawn_gains.json, every pair that is told as descent by name: where the runs learned something in common, gains count.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.common.results import write_result
from modelkin_data import starter
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.registry import Registry
from modelkin_registry.relations.drawn_gains import alike_share, look_drawn, width

INPUTS, WIDTH, OUTPUTS, DEPTH, BATCH, RATE = 40, 96, 8, 3, 64, 2e-3
Law = Callable[[torch.Tensor], object]
LAWS: dict[str, Law] = {
    "one": lambda w: w.fill_(1),
    "normal, 1 and 0.02": lambda w: w.normal_(1, 0.02),
    "normal, 1 and 0.1": lambda w: w.normal_(1, 0.1),
    "even, 0.5 to 1.5": lambda w: w.uniform_(0.5, 1.5),
    "even, 0 to 1": lambda w: w.uniform_(0, 1),
    "log-normal, 0.3": lambda w: w.log_normal_(0, 0.3),
    "even steps, 0.5 to 1.5": lambda w: w.copy_(torch.linspace(0.5, 1.5, len(w))),
}
STEPS, QUICK = (40, 200, 600), (40,)
SEEDS = (0, 42)
LEAST_WIDTH = 0.08  # spread / root mean square of a published model's gains from which they are told here


class Block(torch.nn.Module):
    """x + down(gelu(up(norm(x))))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        return changed


def run(law: Law, seed: int, task: int, steps: int) -> dict[str, torch.Tensor]:
    """A network from one seed after so many steps on a task of its own."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(INPUTS, WIDTH), *(Block() for _ in range(DEPTH)), torch.nn.Linear(WIDTH, OUTPUTS))
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, torch.nn.LayerNorm):
                law(part.weight)
    random = torch.Generator().manual_seed(1000 + task)
    first, second = torch.randn(INPUTS, 64, generator=random) / INPUTS**0.5, torch.randn(64, OUTPUTS, generator=random) / 8
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE)
    for _ in range(steps):
        x = torch.randn(BATCH, INPUTS, generator=random)
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(net(x), torch.tanh(x @ first) @ second).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def read(state: dict[str, torch.Tensor], folder: Path, name: str) -> Fingerprint:
    save_file(state, folder / f"{name}.safetensors")
    return fingerprint_source(open_source(folder / f"{name}.safetensors"), level="full")


def gains(model: Fingerprint) -> list[int]:
    return [row for row, place in enumerate(model.vectors.places) if place.family == "norm"]


def pair(law: Law, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Two runs from one seed on two tasks."""
    states = [run(law, seed, task, steps) for task in (1, 2)]
    a, b = (read(state, folder, name) for state, name in zip(states, "ab", strict=True))
    named = [name for name in states[0] if name.endswith("norm.weight")]
    r = [float(np.corrcoef(*(state[name].numpy() for state in states))[0, 1]) for name in named]
    relation = compare_fingerprints(a, b, a_name="a", b_name="b", controls={}, judge=ALONE).relation
    told = [(alike_share(one.vectors, gains(one)), width(one.vectors, gains(one))) for one in (a, b)]
    return {
        "relation": relation,
        "r_of_gains": round(float(np.mean(r)), 3),
        "alike": round(min(share for share, _ in told), 3),
        "width": round(min(wide for _, wide in told), 4),
    }


def published(folder: Path) -> list[dict[str, Any]]:
    """Of each model of the starter registry with wide gains how many are alike, the largest share first, and whether they look drawn."""
    packaged, found = starter.path(), []
    assert packaged is not None
    with Registry.open(shutil.copy(packaged, folder / "starter.db"), create=False) as registry:
        for listed in registry.list():
            model = registry.get(listed.model)
            rows = gains(model)
            if (wide := width(model.vectors, rows)) >= LEAST_WIDTH:
                share, drawn = alike_share(model.vectors, rows), look_drawn(model.vectors, rows)
                found.append({"model": listed.model, "gains": len(rows), "width": round(wide, 3), "alike": round(share, 3), "drawn": drawn})
    return sorted(found, key=lambda one: -float(one["alike"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one length of training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="modelkin-gains-") as folder:
        for law, start in LAWS.items():
            for seed in SEEDS:
                for steps in QUICK if args.quick else STEPS:
                    rows.append({"start": law, "seed": seed, "steps": steps} | pair(start, seed, steps, Path(folder)))
                    print(rows[-1], flush=True)
        beside = published(Path(folder))
    accused = [one for one in rows if one["relation"] not in DESCENT_FREE]
    write_result("drawn_gains", {"pairs": len(rows), "accused": accused, "rows": rows, "published": beside})


if __name__ == "__main__":
    main()
