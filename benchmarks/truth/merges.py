"""Merges of really trained families, and trained models that are none: `python -m benchmarks.truth.merges BASE=FOLDER ...`.

BASE is the folder of a base, FOLDER what `merge_family.py` trained from it. All fine-tunes and the base are registered; each merge of them
(bfloat16) is asked for its parents without being told any, and so is each fine-tune, with all others registered. Told are parents, errors
of weights, and how many standard errors they are. Results: benchmarks/results/merges.json.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from benchmarks.common.results import write_result
from modelkin_cli.main import cli
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.merging.election import election_misfit
from modelkin_registry.merging.judging import changes, unevenness
from modelkin_registry.merging.table import table_of_matrices

Tensors = dict[str, torch.Tensor]
UNMEASURED = 1e9  # where a tensor did not change in some model: both measures need all


def mixed(parents: list[Tensors], weights: list[float]) -> Tensors:
    return {k: sum(w * p[k] for w, p in zip(weights, parents, strict=True)) for k in parents[0]}  # type: ignore[misc]


def slerped(a: Tensors, b: Tensors, t: float) -> Tensors:
    """Spherical interpolation tensor by tensor, as mergekit does it."""
    made = {}
    for name, one in a.items():
        other = b[name]
        cosine = float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12))
        angle = torch.arccos(torch.tensor(min(1.0, max(-1.0, cosine))))
        if float(angle) < 1e-3:
            made[name] = (1 - t) * one + t * other
        else:
            made[name] = (torch.sin((1 - t) * angle) * one + torch.sin(t * angle) * other) / torch.sin(angle)
    return made


def gradient(a: Tensors, b: Tensors, layers: int) -> Tensors:
    """The second parent's weight grows from 0 to 1 over the layers."""

    def share(name: str) -> float:
        parts = [int(part) for part in name.split(".") if part.isdigit()]
        return parts[0] / max(layers - 1, 1) if parts else 0.5

    return {k: (1 - share(k)) * v + share(k) * b[k] for k, v in a.items()}


def trimmed(change: torch.Tensor, density: float) -> torch.Tensor:
    kept = int(density * change.numel())
    if kept < 1 or kept == change.numel():
        return change
    least = change.abs().flatten().kthvalue(change.numel() - kept + 1).values
    return torch.where(change.abs() >= least, change, torch.zeros_like(change))


def ties(base: Tensors, parents: list[Tensors], weights: list[float], density: float) -> Tensors:
    made = {}
    for name, start in base.items():
        stack = torch.stack([w * trimmed(p[name] - start, density) for w, p in zip(weights, parents, strict=True)])
        agreeing = (torch.sign(stack) == torch.sign(stack.sum(0))) & (stack != 0)
        shares = torch.stack([torch.full_like(start, w) for w in weights]) * agreeing
        made[name] = start + (stack * agreeing).sum(0) / shares.sum(0).clamp(min=1e-8)
    return made


def dare(base: Tensors, parents: list[Tensors], weights: list[float], density: float) -> Tensors:
    random = torch.Generator().manual_seed(5)
    made = {}
    for name, start in base.items():
        kept = [(p[name] - start) * (torch.rand(start.shape, generator=random) < density) / density for p in parents]
        made[name] = start + sum(w * k for w, k in zip(weights, kept, strict=True))
    return made


def merges(base: Tensors, a: Tensors, b: Tensors, c: Tensors, layers: int) -> dict[str, tuple[str, Tensors, dict[str, float] | None]]:
    """name -> (kind, tensors, true weights of a, b, c and the base; None where they are not one number)."""
    return {
        "linear 0.7 0.3": ("linear", mixed([a, b], [0.7, 0.3]), {"a": 0.7, "b": 0.3}),
        "linear 0.5 0.5": ("linear", mixed([a, c], [0.5, 0.5]), {"a": 0.5, "c": 0.5}),
        "linear 0.15 0.85": ("linear", mixed([b, c], [0.15, 0.85]), {"b": 0.15, "c": 0.85}),
        "linear 0.5 0.3 0.2": ("linear", mixed([a, b, c], [0.5, 0.3, 0.2]), {"a": 0.5, "b": 0.3, "c": 0.2}),
        "slerp 0.4": ("slerp", slerped(a, b, 0.4), {"a": 0.6, "b": 0.4}),
        "slerp 0.25": ("slerp", slerped(b, c, 0.25), {"b": 0.75, "c": 0.25}),
        "task 0.8 0.5": ("task arithmetic", mixed([base, a, b], [-0.3, 0.8, 0.5]), {"base": -0.3, "a": 0.8, "b": 0.5}),
        "task 0.6 0.6": ("task arithmetic", mixed([base, a, c], [-0.2, 0.6, 0.6]), {"base": -0.2, "a": 0.6, "c": 0.6}),
        "task 0.4 0.3": ("task arithmetic", mixed([base, b, c], [0.3, 0.4, 0.3]), {"base": 0.3, "b": 0.4, "c": 0.3}),
        "gradient": ("gradient", gradient(a, b, layers), None),
        "gradient, others": ("gradient", gradient(b, c, layers), None),
        "ties 0.5": ("ties", ties(base, [a, b], [0.5, 0.5], 0.5), None),
        "ties 0.7, others": ("ties", ties(base, [b, c], [0.6, 0.4], 0.7), None),
        "dare 0.5": ("dare", dare(base, [a, b], [0.6, 0.4], 0.5), None),
        "dare 0.7, others": ("dare", dare(base, [b, c], [0.5, 0.5], 0.7), None),
    }  # fmt: skip


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(cli, ["--registry", "r.db", *arguments], catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(result.output)
    return json.loads(result.stdout) if "--json" in arguments and "add" not in arguments else None


def asked(folder: Path) -> dict[str, Any] | None:
    return dict(merge) if (merge := run("decompose", str(folder), "--level", "probe", "--json")["merge"]) else None


def saved(folder: Path, tensors: Tensors, config: Path) -> Path:
    folder.mkdir(parents=True)
    save_file({k: v.to(torch.bfloat16).contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_bytes(config.read_bytes())
    return folder


def family(base: Path, folder: Path) -> dict[str, Any]:
    paths = {"base": base, **{p.name: p for p in sorted(folder.iterdir()) if p.is_dir()}}
    weights = {name: load(path) for name, path in paths.items()}
    singles = [name for name in paths if name in ("code", "headers", "prose")]
    letters = dict(zip("abc", singles, strict=True)) | {"base": "base"}
    layers = 1 + max(int(part) for name in weights["base"] for part in name.split(".") if part.isdigit())
    found: dict[str, Any] = {"merges": [], "trained": []}
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        copies = {name: saved(Path("models") / name, tensors, base / "config.json") for name, tensors in weights.items()}
        run("add", "--no-starter", *map(str, copies.values()), "--level", "probe", "--json")
        for name, (kind, tensors, true) in merges(weights["base"], *(weights[letters[x]] for x in "abc"), layers).items():
            told = asked(saved(Path("made") / name.replace(" ", "-"), tensors, base / "config.json"))
            wanted = {letters[x]: w for x, w in (true or {}).items()}
            found["merges"].append({"merge": name, "kind": kind, "truth": wanted, **beside(told, wanted)})
        prints = {name: printed(path) for name, path in copies.items()}
        for name in (n for n in paths if n != "base"):
            run("remove", name, "--yes")
            told = asked(copies[name])
            run("add", str(copies[name]), "--level", "probe", "--json")
            found["trained"].append(
                {"model": name, "called_a_merge": told is not None, "told": told and told["method"], **near(name, prints)}
            )
    return found


def load(path: Path) -> Tensors:
    return {k: v.float() for file in sorted(path.glob("*.safetensors")) for k, v in load_file(file).items()}


def printed(path: Path) -> Fingerprint:
    with contextlib.closing(open_source(path)) as source:
        return fingerprint_source(source, level="probe")


def near(name: str, prints: dict[str, Fingerprint]) -> dict[str, float]:
    """Least unevenness and misfit of the election over all pairs of the other models: what a threshold has to stay below."""
    others = {other: one for other, one in prints.items() if other != name}
    table = table_of_matrices(prints[name], others)
    names, least = list(others), {"least_unevenness": UNMEASURED, "least_election_misfit": UNMEASURED}
    for a, b in itertools.combinations([at for at, other in enumerate(names) if other != "base"], 2):
        products = changes(table, [a, b, -1], names.index("base"))
        measures: dict[str, Callable[[Any], float]] = {"least_unevenness": unevenness, "least_election_misfit": election_misfit}
        least = {key: round(min(least[key], measure(products)), 2) for key, measure in measures.items()}
    return least


def beside(told: dict[str, Any] | None, wanted: dict[str, float]) -> dict[str, Any]:
    """What was told, and its errors."""
    if told is None:
        return {"found": False}
    parents = {parent["model"]: (parent["weight"], parent["sd"]) for parent in told["parents"]}
    errors = {name: parents[name][0] - w for name, w in wanted.items() if name in parents}
    return {
        "found": True,
        "method": told["method"],
        "told": {name: [round(w, 4), round(sd, 4)] for name, (w, sd) in parents.items()},
        "largest_error": round(max(map(abs, errors.values())), 4) if errors else None,
        "errors_in_sd": [round(error / parents[name][1], 2) for name, error in errors.items() if parents[name][1] > 0],
        "no_other_parent": not set(parents) - set(wanted) if wanted else None,
    }


def main(arguments: list[str]) -> None:
    families = {Path(base).name: family(Path(base).resolve(), Path(folder).resolve()) for base, folder in (a.split("=") for a in arguments)}
    made = [one for f in families.values() for one in f["merges"]]
    trained = [one for f in families.values() for one in f["trained"]]
    sds = [abs(z) for one in made for z in one.get("errors_in_sd", ())]
    kinds = sorted({one["kind"] for one in made})
    errors = [one["largest_error"] for one in made if one.get("largest_error") is not None]
    summary = {
        "found": {
            kind: f"{sum(o['found'] for o in made if o['kind'] == kind)} of {sum(o['kind'] == kind for o in made)}" for kind in kinds
        },
        "with_true_parents_alone": f"{sum(bool(o.get('no_other_parent')) for o in made)} of {sum(bool(o['truth']) for o in made)}",
        "largest_error": max(errors, default=None),
        "weights": len(sds),
        "share_within_2_sd": round(sum(z <= 2 for z in sds) / max(len(sds), 1), 3),
        "trained_called_a_merge": f"{sum(o['called_a_merge'] for o in trained)} of {len(trained)}",
        "trained_least_unevenness": sorted(o["least_unevenness"] for o in trained if o["least_unevenness"] < UNMEASURED),
        "trained_least_election_misfit": sorted(x for o in trained if (x := o["least_election_misfit"]) < UNMEASURED),
        "trained_not_measurable": sum(o["least_election_misfit"] == UNMEASURED for o in trained),
    }
    write_result("merges", {"summary": summary, "families": families})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
