"""Synthetic twins of the published 100B case: `python -m benchmarks.truth.published_case FIGURES`.

FIGURES is the JSON file of published figures (`solar_glm_phi`, `solar_glm_sanity`, `solar_glm_other`). Of three models A, B and C only
means, spreads and sizes are taken over: raw cosines of norms give each model's coefficient of variation, relative L2 distances the ratios
of lengths; every pattern is drawn at random and independently. A fourth model is B trained on a little. What `compare --exact --control`
then says is held against what was published. Results: benchmarks/results/published_case.json.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import safetensors.numpy
from click.testing import CliRunner

from benchmarks.common.results import write_result
from modelkin_cli.main import cli

LAYERS, HIDDEN, ROWS, TOKENS = 46, 4096, 128, 200
GIVEN = (10, 20, 30)  # layers with published figures
NORMS = {"input_layernorm": "norm_pre", "post_attention_layernorm": "norm_post"}
PAIRS = ("solar-glm", "solar-phi", "glm-phi")
TUNED = 1e-3  # relative size of what further training changed
Floats = npt.NDArray[np.float64]


def profiles(values: dict[str, Any], norm: str, mean: float) -> Floats:
    """(models, layers): each model's mean / root mean square, such that products give the published cosines and their mean over layers."""
    given = []
    for layer in GIVEN:
        sg, sp, gp = (values[norm]["cosine"][f"L{layer}"][pair] for pair in PAIRS)
        given.append((math.sqrt(sg * sp / gp), math.sqrt(sg * gp / sp), math.sqrt(sp * gp / sg)))
    ratio = np.array([np.interp(np.arange(LAYERS), GIVEN, one) for one in np.clip(given, 0.5, 0.9999).T])
    early = np.arange(LAYERS) < GIVEN[0]
    low, high = 0.1, 20.0  # the spread of early layers, where nothing was published but the mean over all
    for _ in range(60):
        middle = math.sqrt(low * high)
        changed = _spread(ratio, early, middle)
        low, high = (middle, high) if float(np.mean(changed[0] * changed[1])) > mean else (low, middle)
    return _spread(ratio, early, math.sqrt(low * high))


def _spread(ratio: Floats, early: npt.NDArray[np.bool_], factor: float) -> Floats:
    variation = np.sqrt(1 / ratio**2 - 1) * np.where(early, factor, 1.0)
    return np.asarray(1 / np.sqrt(1 + variation**2))


def lengths(values: dict[str, Any], name: str) -> Floats:
    """(models, layers): lengths relative to the first model's, from relative L2 distances and cosines."""
    found = []
    for layer in GIVEN:
        sizes = [1.0]
        for pair in PAIRS[:2]:
            cosine, distance = (values[name][kind][f"L{layer}"][pair] for kind in ("cosine", "rel_l2"))
            sizes.append(cosine + math.sqrt(max(cosine**2 - 1 + distance**2, 0.0)))
        found.append(sizes)
    return np.array([np.interp(np.arange(LAYERS), GIVEN, one) for one in np.array(found).T])


def twin(which: int, figures: dict[str, Any]) -> dict[str, Any]:
    """One model's tensors: its spreads and sizes, and a pattern of its own."""
    values, rng = figures["solar_glm_phi"]["values"], np.random.default_rng(100 + which)
    tensors = {"model.embed_tokens.weight": 0.02 * rng.standard_normal((TOKENS, HIDDEN))}
    for norm, key in NORMS.items():
        ratio = profiles(values, norm, figures["solar_glm_sanity"][key]["cosine"])[which]
        size = lengths(values, norm)[which]
        for layer in range(LAYERS):
            squares = 1 / ratio[layer] ** 2 - 1
            gains = rng.gamma(1 / squares, squares, HIDDEN)
            tensors[f"model.layers.{layer}.{norm}.weight"] = gains * size[layer] * ratio[layer]
    for role in ("k_proj", "v_proj"):
        size = lengths(values, role)[which]
        for layer in range(LAYERS):
            tensors[f"model.layers.{layer}.self_attn.{role}.weight"] = 0.02 * size[layer] * rng.standard_normal((ROWS, HIDDEN))
    for layer in range(LAYERS):
        tensors[f"model.layers.{layer}.mlp.gate.weight"] = 0.02 * rng.standard_normal((ROWS, HIDDEN))
    return {name: value.astype(ml_dtypes.bfloat16) for name, value in tensors.items()}


def tuned(tensors: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    changed = {k: v.astype(np.float64) * (1 + TUNED * rng.standard_normal(v.shape)) for k, v in tensors.items()}
    return {k: v.astype(ml_dtypes.bfloat16) for k, v in changed.items()}


def write(folder: Path, tensors: dict[str, Any]) -> Path:
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "glm4_moe", "hidden_size": HIDDEN}))
    return folder


def compared(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["compare", *arguments, "--exact", "--json"], catch_exceptions=False)
    return dict(json.loads(result.stdout))


def figures_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Per role: raw cosine, floor, centred r with its spread, p, the within-model baseline and the control."""
    table = {}
    for role in answer["exact_summary"]["roles"]:
        mean = {key: role[key] and round(role[key]["mean"], 5) for key in ("cosine", "cosine_floor", "pearson")}
        others = {s["name"]: {k: s[k] and round(s[k]["mean"], 5) for k in ("cosine", "cosine_floor", "pearson")} for s in role["strangers"]}
        spread = {"pearson_sd": role["pearson"] and round(role["pearson"]["sd"], 5)}
        table[f"{role['family']} {role['role']}"] = {**mean, **spread, "p_value": role["p_value"], "finding": role["finding"], **others}
    return table


def shuffled(a: dict[str, Any], b: dict[str, Any], norm: str) -> float:
    """Mean raw cosine after the second vector's entries were shuffled, as in the published check."""
    rng, found = np.random.default_rng(0), []
    for layer in range(LAYERS):
        x, y = (t[f"model.layers.{layer}.{norm}.weight"].astype(np.float64) for t in (a, b))
        found.append(float(x @ rng.permutation(y) / np.linalg.norm(x) / np.linalg.norm(y)))
    return float(np.mean(found))


def main(path: Path) -> None:
    published = json.loads(path.read_text())
    models = [twin(which, published) for which in range(3)]
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors in zip("ABCD", [*models, tuned(models[1])], strict=True):
            write(Path(folder) / name, tensors)
        with contextlib.chdir(folder):  # so that sides are told as A, B, C and D
            accused, child = compared("A", "B", "--control", "C"), compared("D", "B", "--control", "C")
    table, sanity, other = figures_of(accused), published["solar_glm_sanity"], published["solar_glm_other"]
    pre, post = table["norm attention_input"], table["norm mlp_input"]
    rows = {
        "input norm, raw cosine": (sanity["norm_pre"]["cosine"], pre["cosine"], 0.005),
        "input norm, floor (published: shuffled)": (sanity["norm_pre"]["cosine_shuffled"], pre["cosine_floor"], 0.005),
        "input norm, shuffled": (sanity["norm_pre"]["cosine_shuffled"], shuffled(*models[:2], "input_layernorm"), 0.005),
        "input norm, centred": (sanity["norm_pre"]["centered_mean"], pre["pearson"], 0.02),
        "post-attention norm, raw cosine": (sanity["norm_post"]["cosine"], post["cosine"], 0.005),
        "post-attention norm, floor (published: shuffled)": (sanity["norm_post"]["cosine_shuffled"], post["cosine_floor"], 0.005),
        "post-attention norm, centred": (sanity["norm_post"]["centered_mean"], post["pearson"], 0.02),
        "k, centred": (other["k_proj"]["mean"], table["attention k"]["pearson"], 0.003),
        "v, centred": (other["v_proj"]["mean"], table["attention v"]["pearson"], 0.003),
        "router, centred": (other["router"]["mean"], table["router router"]["pearson"], 0.01),
        "embeddings of 200 tokens": (other["embed_200_shared_tokens"]["mean"], table["embedding token"]["pearson"], 0.015),
    }
    result = {
        "beside the published figures": {
            name: {"published": given, "ours": round(ours, 5), "within": within, "agrees": abs(given - ours) <= within}
            for name, (given, ours, within) in rows.items()
        },
        "verdict": {"relation": accused["relation"], "explanation": accused["explanation"]},
        "preservation": accused["exact_summary"]["preservation"],
        "table": table,
        "real fine-tune (B trained on)": {"relation": child["relation"], "table": figures_of(child)},
    }
    write_result("published_case", result)
    print(json.dumps({k: result[k] for k in ("beside the published figures", "verdict")}, indent=1))
    print(child["relation"], {k: (v["cosine"], v["pearson"]) for k, v in figures_of(child).items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
