"""The face of a registry: add, ask, compare; what several relatives make of one another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import models
from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, UnknownModel
from modelkin_registry.registry import Registry

SEEDS = (1, 2, 3)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(tmp_path / "r.db") as opened:
        for seed in SEEDS:
            opened.add(f"base-{seed}", models.fingerprint(tmp_path / "m", models.llama(seed)), origin=f"/models/{seed}")
        yield opened


def ask(registry: Registry, tmp_path: Path, tensors: models.Tensors, **options: bool) -> list[tuple[str, str]]:
    answer = registry.query(models.fingerprint(tmp_path / "q", tensors), **options)
    return [(relative.model, relative.relation) for relative in answer.relatives]


def test_same_content_is_unchanged_and_other_content_a_revision(registry: Registry, tmp_path: Path) -> None:
    assert registry.add("base-1", models.fingerprint(tmp_path / "m", models.llama(1))).status == "unchanged"
    changed = models.llama(1)
    changed["model.layers.2.mlp.up_proj.weight"][17, 3] += 0.5
    assert registry.add("base-1", models.fingerprint(tmp_path / "m", changed)).status == "added"
    assert len(registry.show("base-1")["revisions"]) == 2
    assert [line.model for line in registry.list()] == ["base-1", "base-2", "base-3"]


def test_nearest_relative_first(registry: Registry, tmp_path: Path) -> None:
    registry.add("tuned", models.fingerprint(tmp_path / "m", models.trained_on(models.llama(2), 5, 0.3)))
    found = ask(registry, tmp_path, models.trained_on(models.llama(2), 6, 0.05))
    assert found == [("base-2", "fine-tuned"), ("tuned", "fine-tuned")]


def test_a_model_that_is_left_out_is_as_if_it_were_not_there(registry: Registry, tmp_path: Path) -> None:
    """A registered model asked about beside itself: neither it nor its revisions are told, counted, or taken for a merge's parent."""
    mixed = {name: (values + models.llama(2)[name]) / 2 for name, values in models.llama(1).items()}
    asked = models.fingerprint(tmp_path / "q", mixed)
    before = registry.query(asked).to_dict()
    changed = models.trained_on(mixed, 9, 0.02)
    registry.add("mixed", models.fingerprint(tmp_path / "m", changed))
    registry.add("mixed", asked)
    assert registry.query(asked).relatives[0].model == "mixed"
    assert registry.query(asked, besides="mixed").to_dict() == before
    assert {parent["model"] for parent in before["merge"]["parents"]} == {"base-1", "base-2"}
    assert before["registry"]["models"] == len(SEEDS)
    with pytest.raises(UnknownModel):
        registry.query(asked, besides="nobody")


def test_exact_search_agrees(registry: Registry, tmp_path: Path) -> None:
    for tensors in (
        models.trained_on(models.llama(2), 6, 0.5),
        models.part_from(models.llama(8), models.llama(1), ".layers.3."),
        models.llama(9),
    ):
        found = registry.query(models.fingerprint(tmp_path / "q", tensors), show_all=True)
        assert registry.query(models.fingerprint(tmp_path / "q", tensors), show_all=True, exact=True) == found


def test_nothing_is_called_incomparable_before_more_were_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 25 strangers one alone has matrices of the shapes asked about, and it is not among those that the index finds near by chance."""
    tables = ("embed_tokens", "lm_head")
    other = {seed: {k: np.pad(v, 8) if "proj" in k else v for k, v in models.llama(seed).items()} for seed in range(101, 125)}
    other = {seed: {k: v for k, v in tensors.items() if not any(table in k for table in tables)} for seed, tensors in other.items()}
    with Registry.open(tmp_path / "r.db") as registry:
        for seed, tensors in other.items():
            registry.add(f"other-{seed}", models.fingerprint(tmp_path / "m", tensors))
        registry.add("alike", models.fingerprint(tmp_path / "m", models.llama(100)))
        asked = [models.fingerprint(tmp_path / "q", models.llama(seed)) for seed in range(6)]
        monkeypatch.setattr("modelkin_registry.asking.NEAREST", 1)
        assert {registry.query(one).verdict for one in asked} == {"nothing found"}
        monkeypatch.setattr("modelkin_registry.asking.WIDER", 0)
        assert "not examined" in {registry.query(one).verdict for one in asked}


def test_same_question_same_answer(registry: Registry, tmp_path: Path) -> None:
    query = models.fingerprint(tmp_path / "q", models.llama(9))
    answers = {json.dumps(msgspec.to_builtins(registry.query(query, show_all=True))) for _ in range(3)}
    assert len(answers) == 1


def test_p_values_are_corrected_for_the_search(registry: Registry, tmp_path: Path) -> None:
    query = models.fingerprint(tmp_path / "q", models.llama(9))
    for relative in registry.query(query, show_all=True).relatives:
        for family in (f for c in relative.components for f in c.families):
            assert family.p_value is not None
            alone = registry.compare(query, registry.get(relative.model))
            single = next(f for c in alone.components for f in c.families if f.family == family.family)
            assert single.p_value is not None
            assert family.p_value == pytest.approx(min(1.0, single.p_value * len(SEEDS)))


def test_strangers_have_no_small_p_values(tmp_path: Path) -> None:
    """45 unrelated pairs: none is accused, and p-values are not smaller than they may be."""
    found = [models.fingerprint(tmp_path / "m", models.llama(seed, layers=3)) for seed in range(20, 30)]
    with Registry.open(tmp_path / "s.db") as registry:
        for number, one in enumerate(found):
            registry.add(f"m{number}", one)
        relatives = [r for one in found for r in registry.query(one, show_all=True, k=20).relatives if r.relation != "identical"]
    assert {relative.relation for relative in relatives} == {"unrelated"}
    values = [f.p_value for r in relatives for c in r.components for f in c.families if f.informative and f.p_value is not None]
    assert np.mean(np.array(values) < 0.05) <= 0.05


def test_merge_by_layers_is_told_apart(registry: Registry, tmp_path: Path) -> None:
    base = models.llama(1)
    tuned = models.trained_on(base, 5, 0.1)
    registry.add("tuned", models.fingerprint(tmp_path / "m", tuned))
    upper = {
        k.replace(".layers.5.", ".layers.8.").replace(".layers.4.", ".layers.7.").replace(".layers.3.", ".layers.6."): v
        for k, v in tuned.items()
    }
    child = models.with_layers(base, [0, 1, 2, 3, 4, 5]) | {k: v for k, v in upper.items() if any(f".layers.{n}." in k for n in (6, 7, 8))}
    answer = registry.query(models.fingerprint(tmp_path / "q", child))
    maps = {r.model: list(r.components[0].layer_map) for r in answer.relatives}
    assert {r.model: r.relation for r in answer.relatives} == {"base-1": "merged", "tuned": "merged"}
    assert maps == {"base-1": [(n, n) for n in range(6)], "tuned": [(6, 3), (7, 4), (8, 5)]}


def test_controls_stand_beside_a_comparison(registry: Registry, tmp_path: Path) -> None:
    child = models.fingerprint(tmp_path / "q", models.trained_on(models.llama(1), 5, 0.1))
    answer = registry.compare(child, registry.get("base-1"), a_name="child", b_name="base-1", controls={"base-2": registry.get("base-2")})
    assert answer.relation == "fine-tuned"
    control = {f.family: f.r for f in answer.controls[0].a_c}
    assert control["attention"] is not None
    assert abs(control["attention"]) < 0.1
    assert any(sentence.startswith("Control base-2") for sentence in answer.explanation)


def test_keys_must_agree(registry: Registry, tmp_path: Path) -> None:
    private = models.fingerprint(tmp_path / "q", models.llama(1), key=spec.private_key(b"k" * 32))
    with pytest.raises(FingerprintError, match="--key-file"):
        registry.query(private)
    with pytest.raises(FingerprintError, match="one key"):
        registry.compare(private, registry.get("base-1"))


def test_levels_mix(registry: Registry, tmp_path: Path) -> None:
    probe = models.fingerprint(tmp_path / "q", models.trained_on(models.llama(3), 5, 0.3), level="probe")
    answer = registry.query(probe, source="q")
    assert [(r.model, r.relation) for r in answer.relatives] == [("base-3", "fine-tuned")]
    assert "level probe" in answer.warnings[0]


def test_a_removed_model_is_not_found_again(registry: Registry, tmp_path: Path) -> None:
    registry.remove("base-1")
    assert ask(registry, tmp_path, models.llama(1)) == []
    with pytest.raises(UnknownModel, match="base-"):
        registry.get("base-1")
