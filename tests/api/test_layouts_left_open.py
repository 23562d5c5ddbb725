"""What a file leaves open of its layout is read as what it is held against has it: numbers of heads, and which way square matrices lie."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import modelkin
from tiny_models import HIDDEN, Tensors, tiny_llama, tuned

HEADS = 4  # of 12 numbers each: no size that is tried without a word


def megatron(tensors: Tensors) -> Tensors:
    """q, k and v in one tensor, head after head; gate above up."""
    found = {
        "embedding.word_embeddings.weight": tensors["model.embed_tokens.weight"],
        "output_layer.weight": tensors["lm_head.weight"],
        "decoder.final_layernorm.weight": tensors["model.norm.weight"],
    }
    for layer in range(3):
        own, at = f"model.layers.{layer}", f"decoder.layers.{layer}"
        heads = [tensors[f"{own}.self_attn.{x}_proj.weight"].reshape(HEADS, -1, HIDDEN) for x in "qkv"]
        found |= {
            f"{at}.self_attention.linear_qkv.weight": np.concatenate(heads, axis=1).reshape(-1, HIDDEN),
            f"{at}.self_attention.linear_qkv.layer_norm_weight": tensors[f"{own}.input_layernorm.weight"],
            f"{at}.self_attention.linear_proj.weight": tensors[f"{own}.self_attn.o_proj.weight"],
            f"{at}.mlp.linear_fc1.weight": np.concatenate([tensors[f"{own}.mlp.{x}_proj.weight"] for x in ("gate", "up")]),
            f"{at}.mlp.linear_fc1.layer_norm_weight": tensors[f"{own}.post_attention_layernorm.weight"],
            f"{at}.mlp.linear_fc2.weight": tensors[f"{own}.mlp.down_proj.weight"],
        }
    return found


def saved(folder: Path, tensors: Tensors, config: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    """A model with its config, and what Megatron-core would hold of it, of a fine-tune and of a stranger, with none."""
    config = {"model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    original = tiny_llama(1)
    return {
        "original": saved(tmp_path / "original", original, config),
        "copy": saved(tmp_path / "copy", megatron(original)),
        "tuned": saved(tmp_path / "tuned", megatron(tuned(original, 3))),
        "stranger": saved(tmp_path / "stranger", megatron(tiny_llama(2))),
    }


@pytest.mark.parametrize("level", ["full", "probe"])
def test_compare_takes_the_heads_of_the_other_side(models: dict[str, Path], level: str) -> None:
    found = {name: modelkin.compare(models[name], models["original"], level=level) for name in ("copy", "tuned", "stranger")}
    assert {name: answer.relation for name, answer in found.items()} == {
        "copy": "identical",
        "tuned": "fine-tuned",
        "stranger": "unrelated",
    }
    assert found["tuned"].shared > 0.95


def test_query_takes_the_heads_of_the_nearest(models: dict[str, Path], tmp_path: Path) -> None:
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(models["original"])
        nearest = registry.query(models["tuned"]).relatives[0]
    assert (nearest.relation, nearest.shared) == ("fine-tuned", 1.0)


def test_number_by_number_with_the_heads_of_the_other_side(models: dict[str, Path]) -> None:
    answer = modelkin.compare(models["copy"], models["original"], exact=True)
    assert any(line.startswith("30 of 30 tensors are equal bit by bit") for line in answer.explanation)


def squares(seed: int) -> Tensors:
    """A model all of whose matrices but the token table are square."""
    tensors = {name: value for name, value in tiny_llama(seed).items() if "mlp" not in name and "lm_head" not in name}
    random = np.random.default_rng(seed)
    more = {
        f"model.layers.{layer}.mlp.{x}_proj.weight": (0.05 * random.standard_normal((HIDDEN, HIDDEN))).astype(np.float32)
        for layer in range(3)
        for x in ("gate", "up", "down")
    }
    return tensors | more


def turned(tensors: Tensors) -> Tensors:
    return {name: np.ascontiguousarray(value.T) if "_proj" in name else value for name, value in tensors.items()}


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("turned_side", ["a", "b"])
def test_square_matrices_are_tried_both_ways(tmp_path: Path, level: str, turned_side: str) -> None:
    original = saved(tmp_path / "original", squares(1))
    other = saved(tmp_path / "other", turned(tuned(squares(1), 3)))
    sides = (other, original) if turned_side == "a" else (original, other)
    answer = modelkin.compare(*sides, level=level)
    assert (answer.relation, answer.shared) == ("fine-tuned", 1.0)
    mixed = squares(2) | {"model.embed_tokens.weight": squares(1)["model.embed_tokens.weight"]}
    answer = modelkin.compare(saved(tmp_path / "mixed", turned(mixed)), original, level=level)
    assert answer.shared < 0.5  # the token table alone


def test_query_tries_square_matrices_both_ways(tmp_path: Path) -> None:
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(saved(tmp_path / "original", squares(1)))
        nearest = registry.query(saved(tmp_path / "other", turned(tuned(squares(1), 3)))).relatives[0]
    assert (nearest.relation, nearest.shared) == ("fine-tuned", 1.0)


WIDTHS = (40, *[96, 96, 64] * 3, 24)


def unknown(seed: int) -> Tensors:
    """A net of names that no table has, some of whose matrices are square; rows are of uneven size."""
    random, tensors = np.random.default_rng(seed), Tensors()
    for at, (columns, rows) in enumerate(pairwise(WIDTHS)):
        values = np.exp(0.3 * random.standard_normal((rows, 1))) * random.standard_normal((rows, columns))
        tensors[f"trunk.stage_{at}.weight"] = values.astype(np.float32)
        tensors[f"trunk.stage_{at}.bias"] = (0.1 * random.standard_normal(rows)).astype(np.float32)
    return tensors


def stored_the_other_way(tensors: Tensors) -> Tensors:
    """Every matrix [in, out], under its own name: nothing in the file tells it."""
    return {name: np.ascontiguousarray(value.T) for name, value in tensors.items()}


@pytest.mark.parametrize("level", ["full", "probe"])
@pytest.mark.parametrize("turned_side", ["a", "b"])
def test_shapes_that_are_turned_round_tell_how_matrices_are_stored(tmp_path: Path, level: str, turned_side: str) -> None:
    original = saved(tmp_path / "original", unknown(1))
    for name, tensors, expected in (("other", tuned(unknown(1), 3), ("fine-tuned", 1.0)), ("stranger", unknown(2), ("unrelated", 0.0))):
        other = saved(tmp_path / name, stored_the_other_way(tensors))
        answer = modelkin.compare(*((other, original) if turned_side == "a" else (original, other)), level=level)
        assert (answer.relation, answer.shared) == expected


@pytest.mark.parametrize("registered_side", ["a", "b"])
def test_a_control_that_is_stored_the_other_way_turns_neither_side(tmp_path: Path, registered_side: str) -> None:
    original, copy = saved(tmp_path / "original", unknown(1)), saved(tmp_path / "copy", tuned(unknown(1), 3))
    control = saved(tmp_path / "control", stored_the_other_way(unknown(2)))
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(original)
        sides = ("original", copy) if registered_side == "a" else (copy, "original")
        answer = registry.compare(*sides, controls=[control])
    assert (answer.relation, answer.shared) == ("fine-tuned", 1.0)


def test_a_registered_model_turns_no_submission_away_from_the_others(tmp_path: Path) -> None:
    table = {"embed_tokens.weight": np.random.default_rng(5).standard_normal((400, WIDTHS[0])).astype(np.float32)}
    batch = tmp_path / "batch"
    batch.mkdir()
    saved(batch / "victim", unknown(1))
    saved(batch / "copy", tuned(unknown(1), 3) | table)
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(saved(tmp_path / "decoy", stored_the_other_way(unknown(2)) | table))
        results = registry.screen(batch, out=tmp_path / "out").results
    found = {one.submission: {finding.rule for finding in one.findings} for one in results}
    assert all(rules & {"copy-of-submission", "kin-of-submission"} for rules in found.values()), found


def test_submissions_of_one_layout_meet_where_one_of_them_was_read_turned(tmp_path: Path) -> None:
    batch = tmp_path / "batch"
    batch.mkdir()
    recast = {name: value.astype(np.float16) for name, value in unknown(1).items()}
    saved(batch / "recast", stored_the_other_way(recast))
    saved(batch / "tuned", stored_the_other_way(tuned(unknown(1), 3)))
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(saved(tmp_path / "original", unknown(1)))
        results = registry.screen(batch, out=tmp_path / "out", evidence=True).results
    found = {one.submission: {(finding.rule, finding.relative) for finding in one.findings} for one in results}
    assert found["recast"] >= {("undeclared", "original"), ("kin-of-submission", "tuned")}
    assert ("kin-of-submission", "recast") in found["tuned"]
    relations = [json.loads(path.read_text())["answer"]["relation"] for path in sorted((tmp_path / "out" / "evidence").glob("*.json"))]
    assert set(relations) <= {"recast", "fine-tuned", "noised"}


def test_number_by_number_of_matrices_that_are_read_turned(tmp_path: Path) -> None:
    other, original = saved(tmp_path / "other", stored_the_other_way(unknown(1))), saved(tmp_path / "original", unknown(1))
    answer = modelkin.compare(other, original, exact=True)
    assert any(line.startswith("20 of 20 tensors are equal bit by bit") for line in answer.explanation), answer.explanation


def test_a_part_is_found_in_a_model_that_is_stored_the_other_way(tmp_path: Path) -> None:
    mixed = unknown(1) | {name: value for name, value in unknown(2).items() if int(name.split(".")[1].removeprefix("stage_")) % 2}
    answer = modelkin.compare(saved(tmp_path / "mixed", stored_the_other_way(mixed)), saved(tmp_path / "original", unknown(1)))
    assert answer.relation == "transplanted"
    sizes = [a * b for a, b in pairwise(WIDTHS)]
    assert answer.shared_of_all == pytest.approx(sum(sizes[::2]) / sum(sizes), abs=0.01)


def test_query_reads_again_what_has_the_lengths_of_a_registered_model(tmp_path: Path) -> None:
    halved = {name: value.astype(np.float16) for name, value in stored_the_other_way(unknown(1)).items()}
    with modelkin.open(tmp_path / "registry.db", create=True, starter=False) as registry:
        registry.add(saved(tmp_path / "original", unknown(1)))
        nearest = registry.query(saved(tmp_path / "other", halved)).relatives[0]
    assert (nearest.relation, nearest.shared) == ("recast", 1.0)
