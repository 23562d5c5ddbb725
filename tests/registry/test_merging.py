"""Merges taken apart without being told the parents; what was only trained near others is not called a merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import models
from modelkin_registry.answers.asked import Merge, QueryAnswer
from modelkin_registry.merging.election import election_misfit
from modelkin_registry.merging.judging import EVEN, unevenness
from modelkin_registry.registry import Registry

Family = dict[str, models.Tensors]


@pytest.fixture(scope="module")
def family() -> Family:
    base = models.llama(1)
    return {"base": base, "other": models.llama(2)} | {f"tuned-{n}": models.trained_on(base, n, 0.2 + 0.05 * n) for n in (1, 2, 3)}


@pytest.fixture
def registry(tmp_path: Path, family: Family) -> Iterator[Registry]:
    with Registry.open(tmp_path / "r.db") as opened:
        for name, tensors in family.items():
            opened.add(name, models.fingerprint(tmp_path / "m", tensors, level="probe"))
        yield opened


def ask(registry: Registry, folder: Path, tensors: models.Tensors) -> QueryAnswer:
    return registry.query(models.fingerprint(folder / "q", tensors, level="probe"), source="q")


def mixed(family: Family, weights: dict[str, float]) -> models.Tensors:
    return {k: sum(weight * family[name][k] for name, weight in weights.items()) for k in family["base"]}  # type: ignore[misc]


def by_tensor(family: Family, rule: Callable[[str, list[models.Array]], models.Array], *names: str) -> models.Tensors:
    return {k: rule(k, [family[name][k] for name in names]).astype(np.float32) for k in family["base"]}


def said(answer: QueryAnswer) -> dict[str, float]:
    assert isinstance(answer.merge, Merge)
    return {parent.model: parent.weight for parent in answer.merge.parents}


@pytest.mark.parametrize(
    ("weights", "how"),
    [
        ({"tuned-1": 0.65, "tuned-2": 0.35}, "a weighted merge of registered models: "),
        ({"base": 0.5, "other": 0.5}, "a weighted merge of registered models: "),
        ({"tuned-1": 0.2, "tuned-2": 0.3, "tuned-3": 0.4, "other": 0.1}, "a weighted merge of registered models: "),
        ({"base": -0.4, "tuned-1": 0.7, "tuned-3": 0.7}, "a weighted merge of registered models' changes from a base (task arithmetic): "),
    ],
)
def test_weights_are_found(registry: Registry, tmp_path: Path, family: Family, weights: dict[str, float], how: str) -> None:
    answer = ask(registry, tmp_path, mixed(family, weights))
    assert said(answer) == pytest.approx(weights, abs=0.01)
    assert isinstance(answer.merge, Merge)
    assert answer.merge.complete
    assert answer.explanation[0].startswith(f"q is best explained as {how}")
    relations = [relative.relation for relative in answer.relatives]
    assert relations[: relations.count("merged")] == ["merged"] * relations.count("merged")
    merged = {relative.model for relative in answer.relatives if relative.relation == "merged"}
    assert merged >= {name for name, weight in weights.items() if weight > 0.12 or weight < 0}


def test_the_common_base_takes_part(registry: Registry, tmp_path: Path, family: Family) -> None:
    answer = ask(registry, tmp_path, mixed(family, {"tuned-1": 0.5, "tuned-2": 0.5}))
    relations = {relative.model: (relative.relation, *relative.also) for relative in answer.relatives}
    assert "merged" in relations["base"]
    assert "merged" not in relations["tuned-3"]
    assert isinstance(answer.merge, Merge)
    assert answer.merge.base == "base"


def test_weights_that_change_with_depth(registry: Registry, tmp_path: Path, family: Family) -> None:
    def rule(name: str, parts: list[models.Array]) -> models.Array:
        share = int(name.split(".")[2]) / (models.LAYERS - 1) if ".layers." in name else 0.5
        return (1 - share) * parts[0] + share * parts[1]

    answer = ask(registry, tmp_path, by_tensor(family, rule, "tuned-1", "tuned-2"))
    assert isinstance(answer.merge, Merge)
    assert answer.merge.method == "gradient"
    layers = {part.layer: part.weights[1].weight for part in answer.merge.layers if part.layer is not None}
    assert layers == pytest.approx({n: n / (models.LAYERS - 1) for n in range(models.LAYERS)}, abs=0.02)


def test_a_parent_that_by_itself_shows_a_common_start_takes_part(tmp_path: Path) -> None:
    """Half of each of two models of which little is learned: the smaller one leaves no slope that tells it from a run of its start."""
    parents = {}
    for name, seed, size in (("large", 1, 1.0), ("small", 2, 0.9)):
        rng, start = np.random.default_rng(seed), models.initialised(seed)
        parents[name] = {
            k: (v + 0.015 * rng.standard_normal(v.shape) if v.ndim == 1 else size * _learned(v, rng)) for k, v in start.items()
        }
    with Registry.open(tmp_path / "r.db") as registry:
        for name, tensors in {**parents, "stranger": models.llama(7)}.items():
            registry.add(name, models.fingerprint(tmp_path / "m", tensors, level="full"))
        both = {k: 0.5 * parents["large"][k] + 0.5 * parents["small"][k] for k in parents["large"]}
        answer = registry.query(models.fingerprint(tmp_path / "q", both, level="full"), source="q")
    assert said(answer) == pytest.approx({"large": 0.5, "small": 0.5}, abs=0.01)
    found = {one.model: one for one in answer.relatives}
    assert {name: one.relation for name, one in found.items()} == {"large": "merged", "small": "merged"}
    assert found["small"].also == ()
    assert found["small"].shared == found["small"].shared_of_all == 1.0
    assert {f.family for c in found["small"].components for f in c.families if f.inherited} >= {"attention", "mlp", "embedding"}
    assert "common start" not in " ".join(answer.explanation)


def _learned(start: models.Array, rng: np.random.Generator) -> models.Array:
    change = rng.standard_normal((len(start), 3)) @ rng.standard_normal((3, start.shape[1]))
    return (start + start.std() / change.std() * change).astype(np.float32)


def test_spherical_merge_of_strangers(registry: Registry, tmp_path: Path, family: Family) -> None:
    def rule(_: str, parts: list[models.Array]) -> models.Array:
        a, b = parts
        angle = np.arccos(np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b))
        return np.asarray((np.sin(0.7 * angle) * a + np.sin(0.3 * angle) * b) / np.sin(angle))

    answer = ask(registry, tmp_path, by_tensor(family, rule, "base", "other"))
    assert isinstance(answer.merge, Merge)
    assert answer.merge.method == "slerp"
    assert said(answer) == pytest.approx({"base": 0.7, "other": 0.3}, abs=0.02)


def test_changes_dropped_at_random(registry: Registry, tmp_path: Path, family: Family) -> None:
    rng = np.random.default_rng(5)

    def rule(_: str, parts: list[models.Array]) -> models.Array:
        base, *tuned = parts
        return base + sum(0.5 * (one - base) * (rng.random(base.shape) < 0.5) / 0.5 for one in tuned)

    answer = ask(registry, tmp_path, by_tensor(family, rule, "base", "tuned-2", "tuned-3"))
    assert isinstance(answer.merge, Merge)
    assert answer.merge.method == "sparsified"
    found = {parent.model: (parent.weight, parent.sd) for parent in answer.merge.parents}
    assert set(found) == {"base", "tuned-2", "tuned-3"}
    assert all(abs(found[name][0] - 0.5) < 4 * found[name][1] < 0.3 for name in ("tuned-2", "tuned-3"))


def elected(base: models.Array, tuned: list[models.Array], density: float) -> models.Array:
    """TIES with equal weights and the mean of what agrees."""
    changes = [one - base for one in tuned]
    kept = np.stack([np.where(abs(c) >= np.quantile(abs(c), 1 - density), c, 0) for c in changes])
    agreeing = (np.sign(kept) == np.sign(kept.sum(axis=0))) & (kept != 0)
    return np.asarray(base + (kept * agreeing).sum(axis=0) / np.maximum(agreeing.sum(axis=0), 1))


@pytest.mark.parametrize("density", [0.35, 0.6, 0.85])
def test_signs_elected(registry: Registry, tmp_path: Path, family: Family, density: float) -> None:
    made = by_tensor(family, lambda _, parts: elected(parts[0], parts[1:], density), "base", "tuned-2", "tuned-3")
    answer = ask(registry, tmp_path, made)
    assert isinstance(answer.merge, Merge)
    assert answer.merge.method == "sign election"
    assert set(said(answer)) == {"base", "tuned-2", "tuned-3"}
    assert "elects their signs" in answer.explanation[0]


def test_a_missing_parent_shows_in_what_is_left(registry: Registry, tmp_path: Path, family: Family) -> None:
    registry.remove("tuned-3")
    answer = ask(registry, tmp_path, mixed(family, {"tuned-1": 0.45, "tuned-2": 0.45, "tuned-3": 0.1}))
    assert isinstance(answer.merge, Merge)
    assert not answer.merge.complete
    assert answer.merge.residual > 5 * answer.merge.rounding
    assert "a parent is missing" in answer.explanation[1]


def trained_on_both(family: Family, seed: int) -> models.Tensors:
    """As really trained models are: a share of each sibling's change that differs from tensor to tensor, and changes of its own."""
    rng = np.random.default_rng(seed)

    def rule(_: str, parts: list[models.Array]) -> models.Array:
        base, first, second = parts
        shares = rng.normal(0.7, 0.2, 2)
        change = shares[0] * (first - base) + shares[1] * (second - base)
        return base + change + 0.6 * change.std() * rng.standard_normal(base.shape)

    return by_tensor(family, rule, "base", "tuned-1", "tuned-2")


@pytest.mark.parametrize("without_base", [False, True])
@pytest.mark.parametrize("kind", ["sibling", "ancestor", "descendant", "on the way", "trained on both", "copy", "parts put together"])
def test_no_merge(registry: Registry, tmp_path: Path, family: Family, kind: str, without_base: bool) -> None:
    base = family["base"]
    made: dict[str, Callable[[], models.Tensors]] = {
        "sibling": lambda: models.trained_on(base, 9, 0.25),
        "ancestor": lambda: base,
        "descendant": lambda: models.trained_on(family["tuned-1"], 9, 0.2),
        "on the way": lambda: {k: (base[k] + family["tuned-1"][k]) / 2 + 0.1 * base[k].std() * noise(k, base) for k in base},
        "trained on both": lambda: trained_on_both(family, 9),
        "copy": lambda: family["tuned-2"],
        "parts put together": lambda: models.part_from(family["tuned-1"], family["other"], "self_attn"),
    }
    if without_base:
        registry.remove("base")
    answer = ask(registry, tmp_path, made[kind]())
    assert answer.merge is None
    assert not any("merged" in (r.relation, *r.also) for r in answer.relatives)


def noise(name: str, like: models.Tensors) -> models.Array:
    return np.random.default_rng(len(name)).standard_normal(like[name].shape).astype(np.float32)


def test_a_parent_of_a_registered_merge_is_no_merge(registry: Registry, tmp_path: Path, family: Family) -> None:
    registry.remove("tuned-1")
    mix = mixed(family, {"tuned-1": 0.5, "tuned-2": 0.5})
    registry.add("mix", models.fingerprint(tmp_path / "m", mix, level="probe"))
    assert ask(registry, tmp_path, family["tuned-1"]).merge is None


@pytest.mark.parametrize("unchanged", [1, 2])
def test_a_place_in_which_a_parent_or_the_model_changed_nothing_ends_no_question(unchanged: int) -> None:
    changes = np.random.default_rng(4).standard_normal((14, 3, 128)) / 12
    products = changes @ changes.transpose(0, 2, 1)
    assert np.isfinite([election_misfit(products), unevenness(products)]).all()
    products[3, unchanged, :] = products[3, :, unchanged] = 1e-17  # what rounding leaves of the difference of two equal products
    products[3, unchanged, unchanged] = 0.0
    assert not election_misfit(products) <= 1.0
    if unchanged == 2:
        assert not unevenness(products) <= EVEN
