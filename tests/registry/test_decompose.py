"""decompose as people and scripts use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from calls import run
from tiny_models import Tensors, save_model, tiny_llama, tuned

LAYERS = 4


def mix(family: dict[str, Tensors], **weights: float) -> Tensors:
    return {k: sum(w * family[name][k] for name, w in weights.items()).astype(np.float32) for k in family["base"]}


@pytest.fixture
def folder(tmp_path: Path, own_folder: Path) -> Path:
    """base, two fine-tunes and a stranger in r.db, and what was made of them beside it."""
    base = tiny_llama(1, LAYERS)
    family = {"base": base, "one": tuned(base, 2, 0.5), "two": tuned(base, 3, 0.5), "stranger": tiny_llama(4, LAYERS)}
    made = {
        "linear": mix(family, one=0.7, two=0.3),
        "task": mix(family, base=-0.3, one=0.8, two=0.5),
        "layers": {k: family["two" if "layers.2" in k or "layers.3" in k else "one"][k] for k in base},
        "sibling": tuned(base, 5, 0.5),
    }
    for name, tensors in (family | made).items():
        save_model(tmp_path / name, tensors)
    assert run("add", *family, "--level", "probe").exit_code == 0
    return tmp_path


def decompose(*arguments: str) -> dict[str, Any]:
    result = run("decompose", *arguments, "--level", "probe", "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def weights(found: dict[str, Any]) -> dict[str, float]:
    return {parent["model"]: parent["weight"] for parent in found["parents"]}


def test_parents_are_sought(folder: Path) -> None:
    answer = decompose("linear")
    assert weights(answer["merge"]) == pytest.approx({"one": 0.7, "two": 0.3}, abs=0.01)
    assert answer["fit"] is None
    assert [part["part"] for part in answer["merge"]["layers"]] == ["embedding", "head", *(f"layer {n}" for n in range(LAYERS))]
    assert answer["merge"] == json.loads(run("query", "linear", "--level", "probe", "--json").stdout)["merge"]


@pytest.mark.parametrize("call", [("--parents", "one", "two"), ("one", "two"), ("--parents", "one", "--parents", "two")])
def test_parents_are_named(folder: Path, call: tuple[str, ...]) -> None:
    answer = decompose("linear", *call)
    assert answer["merge"] == answer["fit"]
    assert weights(answer["merge"]) == pytest.approx({"one": 0.7, "two": 0.3}, abs=0.01)


def test_named_parents_that_make_no_merge_are_weighed_all_the_same(folder: Path) -> None:
    answer = decompose("sibling", "--parents", "one", "two")
    assert answer["merge"] is None
    assert answer["fit"]["residual"] > 10 * answer["fit"]["rounding"]
    assert "is not called a merge of these models" in answer["explanation"][0]
    assert run("decompose", "sibling", "one", "two", "-q").stdout == ""


def test_a_base_may_be_given(folder: Path) -> None:
    answer = decompose("task", "--parents", "one", "two", "--base", "base")
    assert answer["merge"]["method"] == "task arithmetic"
    assert weights(answer["merge"]) == pytest.approx({"base": -0.3, "one": 0.8, "two": 0.5}, abs=0.01)


def test_recipes(folder: Path) -> None:
    for name in ("linear", "task", "layers"):
        assert run("decompose", name, "--level", "probe", "--recipe", f"{name}.yml").exit_code == 0
    linear, task, layers = (yaml.safe_load((folder / f"{name}.yml").read_text()) for name in ("linear", "task", "layers"))
    assert (linear["merge_method"], linear["dtype"]) == ("linear", "float32")
    assert [model["model"] for model in linear["models"]] == ["one", "two"]
    assert (task["merge_method"], task["base_model"]) == ("task_arithmetic", "base")
    assert [model["parameters"]["weight"] for model in task["models"]] == pytest.approx([0.8, 0.5], abs=0.01)
    sources = [part["sources"][0] for part in layers["slices"]]
    assert sources == [{"model": "one", "layer_range": [0, 2]}, {"model": "two", "layer_range": [2, 4]}]


def test_no_recipe_for_what_is_no_merge(folder: Path) -> None:
    result = run("decompose", "sibling", "--recipe", "none.yml")
    assert "no recipe makes this model again" in result.stderr
    assert not (folder / "none.yml").exists()


def test_people_see_a_table(folder: Path) -> None:
    shown = run("decompose", "linear", "--level", "probe", width=120).stdout
    assert shown.startswith("linear is best explained as a weighted merge of registered models: 0.70")
    assert "layer 3" in shown
    assert run("decompose", "layers", "--level", "probe", width=120).stdout.startswith("layers is best explained as a merge by layers")


def test_a_parent_of_other_shapes_is_refused(folder: Path) -> None:
    save_model(folder / "short", tiny_llama(7, 2))
    result = run("decompose", "linear", "--parents", "one", "short")
    assert result.exit_code == 3
    assert "short: its layers have other shapes" in result.stderr
