"""Copies in fewer bits are recast, whatever rounding leaves of vectors and tables that hardly left the value they started from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

import models
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints

Ask = Callable[..., CompareAnswer]
FORMATS = (np.float16, ml_dtypes.bfloat16)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What `compare` says of two sets of tensors, the first in other number formats."""

    def printed(name: str, tensors: models.Tensors, dtype: type) -> Fingerprint:
        path = tmp_path / f"{name}.safetensors"
        safetensors.numpy.save_file({key: np.ascontiguousarray(value.astype(dtype)) for key, value in tensors.items()}, path)
        return fingerprint_source(open_source(path))

    def asked(a: models.Tensors, b: models.Tensors, dtype: type) -> CompareAnswer:
        return compare_fingerprints(printed("a", a, dtype), printed("b", b, np.float32), a_name="a", b_name="b", controls={}, judge=ALONE)

    return asked


def barely_trained(seed: int) -> models.Tensors:
    """Gains that left 1 by a few thousandths, and biases of keys, which nothing moves, near the smallest numbers of half precision."""
    rng, out = np.random.default_rng(seed), {}
    for name, value in models.llama(seed).items():
        out[name] = (1 + 0.004 * rng.standard_normal(value.shape)).astype(np.float32) if value.ndim == 1 else value
        if "k_proj" in name:
            out[name.replace("weight", "bias")] = (3e-7 * rng.standard_normal(len(value))).astype(np.float32)
    return out


@pytest.mark.parametrize("dtype", FORMATS)
def test_gains_and_biases_that_hardly_moved_are_rounded_like_all_else(ask: Ask, dtype: type) -> None:
    model = barely_trained(1)
    assert ask(model, model, dtype).relation == "recast"
    moved = {name: value * np.float32(1.02) if "input_layernorm" in name else value for name, value in model.items()}
    assert ask(moved, model, dtype).relation == "fine-tuned"  # not noised: the even change of the matrices is that of their rounding


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("value", [0.501, 0.5448, 0.999])
def test_a_single_number_may_be_off_by_half_a_step(ask: Ask, dtype: type, value: float) -> None:
    model = models.llama(3)
    model["model.layers.0.self_attn.scale.bias"] = np.array([value], np.float32)
    assert ask(model, model, dtype).relation == "recast"
    moved = model | {"model.layers.0.self_attn.scale.bias": np.array([value * 1.02], np.float32)}
    assert ask(moved, model, dtype).relation != "recast"


@pytest.mark.parametrize("dtype", FORMATS)
def test_twins_under_lost_names_are_told_once(ask: Ask, dtype: type) -> None:
    """A head that is the token table, and its bias that a checkpoint holds twice; no layer is made of what only looks like a vector."""
    model = {name: value for name, value in barely_trained(1).items() if name != "lm_head.weight"}
    model["lm_head.bias"] = np.random.default_rng(3).standard_normal(models.VOCABULARY).astype(np.float32)
    twins = {**model, "lm_head.weight": model["model.embed_tokens.weight"], "lm_head.again.bias": model["lm_head.bias"]}
    lost = {f"{number * 7919 % 997:03d}x": value for number, value in enumerate(twins.values())}
    answer = ask(lost, model, dtype)
    assert answer.relation == "recast"
    assert answer.examined.share == 1.0


def mamba(seed: int) -> models.Tensors:
    """Matrices of state-space layers, with the logarithms of 1, 2, 3 ... that all of them start from and hardly leave."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        value = rng.standard_normal((rows, columns)) + rng.standard_normal((rows, 4)) @ rng.standard_normal((4, columns))
        return (0.02 * value).astype(np.float32)

    out = {"backbone.embeddings.weight": matrix(512, 64)}
    for layer in range(3):
        at = f"backbone.layers.{layer}.mixer."
        sizes = {"in_proj.weight": (256, 64), "x_proj.weight": (36, 128), "dt_proj.weight": (128, 4), "out_proj.weight": (64, 128)}
        out |= {at + name: matrix(*size) for name, size in sizes.items()}
        out[at + "A_log"] = (np.log(np.arange(1, 17)) + 0.02 * rng.standard_normal((128, 16))).astype(np.float32)
        out[at + "D"] = (1 + 0.01 * rng.standard_normal(128)).astype(np.float32)
        out[at + "conv1d.weight"] = rng.standard_normal((128, 1, 4)).astype(np.float32)
        out[f"backbone.layers.{layer}.norm.weight"] = (1 + 0.01 * rng.standard_normal(64)).astype(np.float32)
    return out


@pytest.mark.parametrize("dtype", FORMATS)
def test_constants_that_every_model_starts_from_are_no_part_without_counterpart(ask: Ask, dtype: type) -> None:
    model = mamba(1)
    copy = ask(model, model, dtype)
    assert (copy.relation, copy.examined.share) == ("recast", 1.0)
    child = {
        name: (value + 0.05 * value.std() * np.random.default_rng(5).standard_normal(value.shape)).astype(np.float32)
        for name, value in model.items()
    }
    assert "transplanted" not in (ask(child, model, np.float32).relation, *ask(child, model, np.float32).also)


def test_a_part_that_hardly_left_its_start_is_a_copy_beside_copies_of_all_else(ask: Ask) -> None:
    rng = np.random.default_rng(4)
    projector = {f"multi_modal_projector.linear_{i}.weight": (rng.uniform(-1, 1, (96, 96)) / 10).astype(np.float32) for i in (1, 2)}
    model = {**{f"language_model.{name}": value for name, value in models.llama(1).items()}, **projector}
    copy = ask(model, model, np.float16)
    assert (copy.relation, copy.shared) == ("recast", 1.0)
    other = {**model, **{name: value[::-1].copy() for name, value in projector.items()}}
    assert ask(other, model, np.float16).relation == "component reused"


def test_a_copy_of_parts_that_all_hardly_left_their_start_is_recast(ask: Ask) -> None:
    rng = np.random.default_rng(4)
    parts = (f"{part}.layers.{layer}.{name}" for part in ("encoder", "decoder") for layer in range(3) for name in ("weight", "bias"))
    model = {name: (rng.uniform(-1, 1, (96, 96) if "weight" in name else 96) / 10).astype(np.float32) for name in parts}
    copy = ask(model, model, np.float16)
    assert (copy.relation, copy.shared) == ("recast", 1.0)
    frozen = {
        name: value if "encoder" in name else (rng.uniform(-1, 1, value.shape) / 10).astype(np.float32) for name, value in model.items()
    }
    assert ask(frozen, model, np.float16).relation == "shared initialisation"


def test_a_layer_of_vectors_alone_is_no_missing_layer(ask: Ask) -> None:
    """Normalisations, activations with a slope and scales are counted as layers where a model numbers all that it does."""
    model = models.llama(4)
    layers = 1 + max(int(name.split(".")[2]) for name in model if name.startswith("model.layers."))
    model[f"model.layers.{layers}.input_layernorm.weight"] = model["model.layers.0.input_layernorm.weight"] + 1
    rng = np.random.default_rng(5)
    trained = {name: (value + 0.05 * value.std() * rng.standard_normal(value.shape)).astype(np.float32) for name, value in model.items()}
    found = ask(trained, model, np.float32)
    assert "transplanted" not in (found.relation, *found.also)
    assert ask(model, model, np.float16).relation == "recast"
