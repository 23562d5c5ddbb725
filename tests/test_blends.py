"""Weighted merges, found without being told the parents; plain fine-tunes are not called merges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import models
from modelkin_registry.answers import QueryAnswer
from modelkin_registry.registry import Registry


@pytest.fixture(scope="module")
def family() -> dict[str, models.Tensors]:
    base = models.llama(1)
    return {"base": base, "other": models.llama(2)} | {f"tuned-{n}": models.trained_on(base, n, 0.2 + 0.05 * n) for n in (1, 2, 3)}


@pytest.fixture
def registry(tmp_path: Path, family: dict[str, models.Tensors]) -> Iterator[Registry]:
    with Registry.open(tmp_path / "r.db") as opened:
        for name, tensors in family.items():
            opened.add(name, models.fingerprint(tmp_path / "m", tensors, level="probe"))
        yield opened


def ask(registry: Registry, folder: Path, family: dict[str, models.Tensors], **weights: float) -> QueryAnswer:
    parts = {name.replace("_", "-"): weight for name, weight in weights.items()}
    mixed = {k: sum(weight * family[name][k] for name, weight in parts.items()) for k in family["base"]}
    return registry.query(models.fingerprint(folder / "q", mixed, level="probe"), source="q")


@pytest.mark.parametrize(
    "weights",
    [{"tuned_1": 0.65, "tuned_2": 0.35}, {"base": 0.5, "other": 0.5}, {"base": -0.4, "tuned_1": 0.7, "tuned_3": 0.7}],
)
def test_weights_are_found(registry: Registry, tmp_path: Path, family: dict[str, models.Tensors], weights: dict[str, float]) -> None:
    answer = ask(registry, tmp_path, family, **weights)
    assert answer.merge is not None
    assert {p["model"].replace("-", "_"): p["weight"] for p in answer.merge["parents"]} == pytest.approx(weights, abs=0.01)
    merged = {relative.model for relative in answer.relatives if relative.relation == "merged"}
    assert merged == {name.replace("_", "-") for name in weights}
    assert answer.explanation[0].startswith("q is best explained as a weighted merge of registered models")


def test_a_further_fine_tune_is_no_merge(registry: Registry, tmp_path: Path, family: dict[str, models.Tensors]) -> None:
    registry.remove("base")
    child = models.trained_on(family["base"], 9, 0.25)
    answer = registry.query(models.fingerprint(tmp_path / "q", child, level="probe"))
    assert answer.merge is None
    assert {relative.relation for relative in answer.relatives} == {"fine-tuned"}


def test_a_registered_model_is_no_merge(registry: Registry, tmp_path: Path, family: dict[str, models.Tensors]) -> None:
    answer = registry.query(models.fingerprint(tmp_path / "q", family["tuned-2"], level="probe"))
    assert answer.merge is None
    assert answer.relatives[0].relation == "identical"
