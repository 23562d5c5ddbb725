"""Sentences: the order of importance, norms told apart, nothing that can be misquoted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.explanation.relatives import layer_runs
from modelkin_registry.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry.open(tmp_path / "r.db")
    for seed in (1, 2, 3):
        registry.add(f"model-{seed}", models.fingerprint(tmp_path / str(seed), models.llama(seed)))
    return registry


def ask(registry: Registry, tmp_path: Path, tensors: models.Tensors) -> list[str]:
    return list(registry.query(models.fingerprint(tmp_path / "query", tensors), source="x/query").explanation)


def test_norms_are_never_the_reason(registry: Registry, tmp_path: Path) -> None:
    sentences = ask(registry, tmp_path, models.part_from(models.llama(9), models.llama(1), "norm"))
    assert sentences[0].startswith("No relative by descent was found for query")
    assert "matches model-1 in low-information norm gains only" in sentences[1]
    norms = next(sentence for sentence in sentences if sentence.startswith("Norms"))
    assert "any two vectors with these means and spreads give 0.99" in norms


def test_strangers_norms_are_explained_away(registry: Registry, tmp_path: Path) -> None:
    answer = registry.query(models.fingerprint(tmp_path / "query", models.llama(9)), source="query", show_all=True)
    assert {relative.relation for relative in answer.relatives} == {"unrelated"}
    norms = next(sentence for sentence in answer.explanation if sentence.startswith("Norms"))
    assert "not used" in norms


def test_headline_comes_first_and_distillation_last(registry: Registry, tmp_path: Path) -> None:
    sentences = ask(registry, tmp_path, models.trained_on(models.llama(2), 8, 0.2))
    assert sentences[0].startswith("query is consistent with the weights of model-2")
    assert "query made from model-2, model-2 made from query, or both made from a third model" in sentences[1]
    assert "corrected for 3 models searched" in sentences[2]
    assert "distillation" in sentences[-1]


def test_only_the_layers_that_came_over_are_named(registry: Registry, tmp_path: Path) -> None:
    sentences = ask(registry, tmp_path, models.part_from(models.llama(9), models.llama(1), ".layers.3."))
    assert any(sentence.endswith("counterpart in model-1: 3 from 3.") for sentence in sentences)


def test_layer_runs() -> None:
    assert layer_runs([(0, 0), (1, 1), (2, 2), (3, 1), (4, 2), (6, 5)]) == "0-2 from 0-2, 3-4 from 1-2, 6 from 5"
    assert layer_runs([]) == ""


def tables_alone() -> models.Tensors:
    positions = np.arange(96)[:, None] / 1e4 ** (np.arange(32) / 32)
    front = np.concatenate([np.sin(positions), np.cos(positions)], 1).astype(np.float32)
    return {"front.positions.weight": front, "front.window": np.hanning(400).astype(np.float32)}


def test_a_file_of_tables_alone_is_told_as_that_and_shows_no_relation_to_its_own_copy(registry: Registry, tmp_path: Path) -> None:
    one, other = (models.fingerprint(tmp_path / name, tables_alone()) for name in ("one", "other"))
    answer = registry.compare(one, other, a_name="one", b_name="other")
    assert (answer.relation, answer.verdict) == ("not comparable", "not examined")
    assert answer.explanation[0].startswith(
        "one holds nothing but tables that anybody computes (sines and cosines of positions, a smooth curve)"
    )
    assert "they are evidence of nothing: it was not compared with other" in answer.explanation[0]
    assert not any("of the bytes are understood" in warning for warning in answer.warnings)


def test_a_query_of_tables_alone_says_why_nothing_was_examined(registry: Registry, tmp_path: Path) -> None:
    registry.add("front", models.fingerprint(tmp_path / "front", tables_alone()))
    answer = registry.query(models.fingerprint(tmp_path / "query", tables_alone()), source="x/query")
    assert (answer.verdict, answer.relatives) == ("not examined", ())
    assert answer.explanation[0].startswith("query was not examined: it holds nothing but tables that anybody computes")


def test_one_weight_beside_tables_is_held_against_others(registry: Registry, tmp_path: Path) -> None:
    one, other = (
        models.fingerprint(tmp_path / name, tables_alone() | models.part_from(models.llama(seed), models.llama(seed), "norm"))
        for name, seed in (("one", 1), ("other", 2))
    )
    answer = registry.compare(one, other, a_name="one", b_name="other")
    assert "nothing but tables" not in answer.explanation[0]


def test_a_part_of_which_little_was_compared_is_not_told_as_another(tmp_path: Path) -> None:
    narrow = {name: value[:64] if "mlp" in name and value.ndim == 2 else value for name, value in models.llama(2).items()}
    sides = [fingerprint_source(open_source(models.write(tmp_path / name, m))) for name, m in (("a", models.llama(1)), ("b", narrow))]
    answer = compare_fingerprints(*sides, a_name="a", b_name="b", controls={}, judge=ALONE)
    text = " ".join(answer.explanation)
    assert answer.parts[0].compared < 0.98
    assert f"could be compared with b's to {answer.parts[0].compared:.0%}".replace("%", " %") in text
    assert "is not b's" not in text


def test_parts_are_shares_of_what_is_understood_where_that_is_not_all(tmp_path: Path) -> None:
    base = models.llama(1, 4)
    rng = np.random.default_rng(2)
    more = {f"calibration.{n}.k_scale": rng.standard_normal(64).astype(np.float32) for n in range(9000)}
    ours, theirs = (models.fingerprint(tmp_path / name, held) for name, held in (("a", base | more), ("b", base)))
    assert ours.about.coverage < 0.9
    answer = compare_fingerprints(ours, theirs, a_name="a", b_name="b", controls={}, judge=ALONE)
    told = " ".join(answer.explanation)
    assert "(100 % of what is understood of it)" in told
    assert "(100 % of its weights)" not in told
