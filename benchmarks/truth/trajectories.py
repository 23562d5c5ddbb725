"""Honest and forged series of checkpoints: `python -m benchmarks.truth.trajectories DERIVED FINAL`.

DERIVED holds a lineage universe's series (traj-step0 to 3, forged-step0 to 4), FINAL is the model that they lead to. Beside them, small
decoders trained here from scratch, and forgeries of their histories: straight lines from another start, with and without noise, noise
that fades, an early step that is the final model already, and a jump to another run. What honest paths show of the figures that tell
forgeries is measured on runs of ten recipes, short and long: rates, decay, momentum and schedules from mild to rough.
Results: benchmarks/results/trajectories.json.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner
from msgspec import Struct, to_builtins
from msgspec.structs import replace
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.common.results import write_result
from modelkin_cli.main import cli
from modelkin_registry.registry import Registry

STEPS, LONG, SAVED, RUNS = 100, 1500, 6, 2
HONEST = "consistent with a training run"
LEAST = ("off the line", "begun", "noise", "line with noise")  # figures that forgeries keep small
Tensors = dict[str, torch.Tensor]


class Recipe(Struct, frozen=True):
    """How a run is trained. `falls`: the rate falls to 0 as a cosine."""

    rate: float
    optimiser: str = "adamw"
    decay: float = 0.01
    momentum: float = 0.0
    falls: bool = False
    steps: int = STEPS
    width: int = 96


MILD = Recipe(2e-3)
RECIPES = (
    *(Recipe(rate, width=64) for rate in (3e-4, 1e-3, 3e-3, 1e-2)),
    Recipe(3e-3, decay=0.5, width=64),
    Recipe(3e-3, decay=0.1, falls=True, width=64),
    Recipe(0.1, "sgd", 0.0, 0.9, width=64),
    Recipe(0.5, "sgd", 0.0, width=64),
    Recipe(1.0, "sgd", 1e-3, width=64),
    Recipe(0.3, "sgd", 0.0, 0.9, falls=True, width=64),
)


def trained(seed: int, recipe: Recipe = MILD) -> tuple[list[Tensors], Any]:
    """Checkpoints of one run on a made-up language: each token follows from the one before, mostly."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, hidden_size=recipe.width, intermediate_size=2 * recipe.width, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    follows = torch.randint(0, 512, (512, 4), generator=torch.Generator().manual_seed(9))
    optimiser = optimiser_of(model, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps) if recipe.falls else None
    saved = [{k: v.clone() for k, v in model.state_dict().items()}]
    for step in range(1, recipe.steps + 1):
        tokens = torch.randint(0, 512, (8, 1))
        for _ in range(15):
            tokens = torch.cat([tokens, follows[tokens[:, -1], torch.randint(0, 4, (8,))][:, None]], dim=1)
        loss = model(tokens, labels=tokens).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        if step % (recipe.steps // (SAVED - 1)) == 0:
            saved.append({k: v.clone() for k, v in model.state_dict().items()})
    return saved, config


def optimiser_of(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay)
    return torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)


def honest_paths(folder: Path) -> list[dict[str, Any]]:
    """What runs of every recipe show, and what is said of them."""
    found = []
    for seed, recipe in enumerate(one for mild in RECIPES for one in (mild, replace(mild, steps=LONG))):
        saved, config = trained(100 + seed, recipe)
        found.append({"recipe": to_builtins(recipe), **asked(written(folder / str(seed), saved, config), figures=True)})
        print(json.dumps(found[-1]), flush=True)
    return found


def line(start: Tensors, end: Tensors, noise: float = 0.0) -> list[Tensors]:
    parts = torch.linspace(0, 1, SAVED).tolist()
    made = [{k: (1 - t) * v + t * end[k] for k, v in start.items()} for t in parts]
    inside = [{k: v + noise * (end[k] - start[k]).std() * torch.randn(v.shape) for k, v in one.items()} for one in made[1:-1]]
    return [made[0], *(inside if noise else made[1:-1]), made[-1]]


def fading(end: Tensors) -> list[Tensors]:
    return [{k: v + size * v.std() * torch.randn(v.shape) for k, v in end.items()} for size in (3.0, 1.5, 0.8, 0.4, 0.2, 0.0)]


def asked(series: list[Path], figures: bool = False) -> dict[str, Any]:
    call = ["--registry", "r.db", "trajectory", "--no-starter", *map(str, series), "--json"]
    result = CliRunner().invoke(cli, call, catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(result.output)
    answer = json.loads(result.stdout)
    told = {"verdict": answer["verdict"], "also": answer["also"]}
    return {**told, "figures": {one["check"]: one["value"] for one in answer["findings"]}} if figures else told


def written(folder: Path, series: list[Tensors], config: Any) -> list[Path]:
    paths = []
    for number, tensors in enumerate(series):
        path = folder / f"step-{number}"
        path.mkdir(parents=True)
        save_file({k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}, path / "model.safetensors")
        (path / "config.json").write_text(config.to_json_string())
        paths.append(path)
    return paths


def main(derived: Path, final: Path) -> None:
    told: dict[str, dict[str, Any]] = {"honest": {}, "forged": {}}
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        Registry.open(Path("r.db")).close()  # an empty one: what is told rests on the series alone
        told["honest"]["universe"] = asked([*(derived / f"traj-step{n}" for n in range(4)), final])
        told["forged"]["universe"] = asked([derived / f"forged-step{n}" for n in range(5)])
        runs = [trained(seed) for seed in range(RUNS)]
        for at, (saved, config) in enumerate(runs):
            other = runs[(at + 1) % RUNS][0]
            cases = {
                "straight line from another start": line(other[0], saved[-1]),
                "the same with noise": line(other[0], saved[-1], 0.3),
                "fading noise": fading(saved[-1]),
                "final model at step 1": [saved[0], saved[-1], *saved[2:]],
                "start of another run": [other[0], *saved[1:]],
                "jump to another run": [*saved[:3], *other[3:]],
                "no random start": saved[2:],
            }
            told["honest"][f"run {at}"] = asked(written(Path(f"honest-{at}"), saved, config))
            for name, series in cases.items():
                told["forged"][f"run {at}: {name}"] = asked(written(Path(f"{at}-{name.replace(' ', '-')}"), series, config))
        paths = honest_paths(Path("paths"))
    forged, honest = told["forged"], told["honest"]
    summary = {
        "honest_told_consistent": f"{sum(o['verdict'] == HONEST for o in honest.values())} of {len(honest)}",
        "forged_told": f"{sum(o['verdict'] != HONEST for o in forged.values())} of {len(forged)}",
        "forged_missed": [name for name, o in forged.items() if o["verdict"] == HONEST],
        "honest_accused": [name for name, o in honest.items() if o["verdict"] != HONEST],
        "honest_paths_told_consistent": f"{sum(o['verdict'] == HONEST for o in paths)} of {len(paths)}",
        "least_of_honest_paths": {check: min(abs(o["figures"][check]) for o in paths) for check in LEAST},
    }
    write_result("trajectories", {"summary": summary, **told, "paths": paths})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
