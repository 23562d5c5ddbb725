"""Copies in other coordinates: what undoing them brings back, and that strangers are not accused by it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import calls
import models
from modelkin_indexer.aligned.channel_maps import polar, signed_permutation
from modelkin_indexer.aligned.comparison import read_aligned
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.aligned import AlignedReading
from modelkin_registry.answers.exact import RecoveredFamily
from modelkin_registry.exact.aligned import judge_recovery, recovery_sentences


def aligned(folder: Path, a: models.Tensors, b: models.Tensors) -> AlignedReading:
    first, second = models.write(folder / "a", a), models.write(folder / "b", b)
    with closing(open_source(first)) as one, closing(open_source(second)) as other:
        return read_aligned(one, other)


def families(reading: AlignedReading) -> dict[str, RecoveredFamily]:
    return {family.family: family for family in judge_recovery(reading)}


def moved(tensors: models.Tensors, turn: np.ndarray) -> models.Tensors:
    """The same function with the residual stream x -> x `turn`, gains folded away."""
    out = dict(tensors)
    for name, value in tensors.items():
        if value.ndim == 1:
            out[name] = np.ones_like(value)
        elif name.endswith(models.WRITING):
            out[name] = (turn.T @ value).astype(np.float32)
        else:
            norm = "model.norm.weight" if name.startswith("lm_head") else None
            if ".layers." in name:
                layer = name.split(".self_attn")[0].split(".mlp")[0]
                norm = f"{layer}.{'input' if 'self_attn' in name else 'post_attention'}_layernorm.weight"
            gain = tensors[norm] if norm else 1.0
            out[name] = ((value * gain) @ turn).astype(np.float32)
    return out


def rotation(seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((models.HIDDEN, models.HIDDEN)))[0]


def permutation(seed: int, *, signs: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = np.eye(models.HIDDEN)[rng.permutation(models.HIDDEN)]
    return turn * rng.choice([-1.0, 1.0], models.HIDDEN) if signs else turn


@pytest.mark.parametrize(
    ("turn", "kind"), [(permutation(1), "permuted"), (permutation(2, signs=True), "permuted"), (rotation(3), "rotated")]
)
def test_a_moved_residual_stream_is_found_and_undone(tmp_path: Path, turn: np.ndarray, kind: str) -> None:
    parent = models.llama(1)
    copy = models.neurons_permuted(models.noised(parent, 5, 0.1), 4)
    reading = aligned(tmp_path, moved(copy, turn), parent)
    assert reading.maps["text"].kind == kind
    assert bool(reading.maps["text"].turned) == bool((turn < 0).any() and kind == "permuted")
    for family in families(reading).values():
        assert family.finding == "recovered"
        assert abs(family.before or 0) < 0.2
        assert family.after > 0.97
        assert (family.p_value or 1) < 1e-6
    text = " ".join(recovery_sentences(reading.maps, judge_recovery(reading)))
    assert "after undoing a change of coordinates" in text


def test_permuted_neurons_are_recovered_and_what_stayed_is_told_as_kept(tmp_path: Path) -> None:
    parent = models.llama(1)
    found = families(aligned(tmp_path, models.neurons_permuted(parent, 2), parent))
    assert (found["mlp"].finding, found["attention"].finding) == ("recovered", "kept")
    assert "reordered" in found["mlp"].orders
    assert found["attention"].before == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(2, 6))
def test_strangers_show_nothing_even_with_one_tokenizer(tmp_path: Path, seed: int) -> None:
    """Their token tables align on held out rows; their layers no better with counterparts than with others."""
    one, other = models.llama(1), models.llama(seed)
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((models.VOCABULARY, 12))
    for tensors in (one, other):
        table = tensors["model.embed_tokens.weight"]
        mix = rng.standard_normal((12, models.HIDDEN))
        tensors["model.embed_tokens.weight"] = (table + 0.01 * shared @ mix).astype(np.float32)
    reading = aligned(tmp_path, one, other)
    assert reading.maps["text"].after > 0.3  # the trap is there
    assert {family.finding for family in judge_recovery(reading)} == {"none"}


def test_a_narrowed_copy_has_its_channels_told(tmp_path: Path) -> None:
    """Width pruning: fewer channels than the parent, matched one by one."""
    parent = models.llama(1)
    kept = np.sort(np.random.default_rng(0).permutation(models.HIDDEN)[:72])
    narrow = {
        name: value[kept] if value.ndim == 1 or name.endswith(models.WRITING) else np.ascontiguousarray(value[:, kept])
        for name, value in parent.items()
    }
    reading = aligned(tmp_path, narrow, parent)
    matrix = reading.maps["text"].matrix
    assert matrix is not None
    assert (np.argmax(matrix, axis=1) == kept).all()
    found = families(reading)
    assert {family.finding for family in found.values()} == {"recovered"}
    assert found["mlp"].before is None


def test_too_few_layers_are_not_judged(tmp_path: Path) -> None:
    found = families(aligned(tmp_path, models.neurons_permuted(models.llama(1), 2) | {}, models.llama(1, 1)))
    assert {family.finding for family in found.values()} == {"not judged"}


def test_polar_factor_and_signed_permutation_of_known_turns() -> None:
    x = np.random.default_rng(0).standard_normal((300, models.HIDDEN))
    q, p = rotation(1), permutation(2, signs=True)
    assert np.allclose(polar(x.T @ (x @ q)), q, atol=1e-4)
    lengths = np.linalg.norm(x, axis=0)
    assert np.array_equal(signed_permutation(x.T @ (x @ p), lengths, np.linalg.norm(x @ p, axis=0)), p)


def test_compare_align_prints_before_and_after_and_query_suggests_it(tmp_path: Path) -> None:
    parent = models.llama(1)
    a, b = models.write(tmp_path / "a", moved(parent, rotation(3))), models.write(tmp_path / "b", parent)
    answer = json.loads(calls.run("compare", str(a), str(b), "--align", "--json").stdout)
    assert {f["finding"] for f in answer["aligned"]["families"]} == {"recovered"}
    assert "rotated" in answer["explanation"][1]
    page = calls.run("compare", str(a), str(b), "--align").stdout
    assert "Coordinates undone" in page
    assert "compare --align" in calls.run("compare", str(a), str(b)).stdout
