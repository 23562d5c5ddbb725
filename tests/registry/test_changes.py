"""What was done to a model is told in words, with its size."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import models
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

Told = Callable[..., str]


@pytest.fixture(scope="module")
def parent() -> models.Tensors:
    return models.llama(1)


@pytest.fixture
def told(tmp_path: Path, parent: models.Tensors) -> Told:
    def changes(child: models.Tensors) -> str:
        a, b = (models.fingerprint(tmp_path / name, tensors, dtype=np.float32) for name, tensors in (("a", child), ("b", parent)))
        return " ".join(sentence for c in measure_kin(a, b, "parent", ALONE).relative.components for sentence in c.changes)

    return changes


def rounded(tensors: models.Tensors, bits: int) -> models.Tensors:
    """Each projection's rows rounded to a symmetric grid of so many bits."""
    steps = 2 ** (bits - 1) - 1
    out = dict(tensors)
    for name, value in tensors.items():
        if "_proj" in name:
            spacing = np.abs(value).max(axis=1, keepdims=True) / steps
            out[name] = (np.rint(value / spacing) * spacing).astype(np.float32)
    return out


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (models.neurons_permuted, "neurons in another order"),
        (models.channels_permuted, "channels of the residual stream in another order"),
        (lambda t, _: models.gains_folded(t), "norm gains folded"),
        (models.scales_moved, "scales moved between paired matrices"),
        (lambda t, _: rounded(t, 8), "a grid of about 8 bits"),
        (lambda t, _: models.narrowed(t, 84, 120), "keeps 84 of 96 channels of the residual stream, 120 of 160 neurons of the MLP"),
        (lambda t, _: models.with_layers(t, [0, 1, 2, 3, 1, 2, 3, 4, 5]), "6 layers there, 9 here: layers 1-3 there more than once here"),
        (lambda t, _: models.with_layers(t, [0, 2, 3, 5]), "6 layers there, 4 here: layers 1, 4 there without a counterpart here"),
        (models.adapter_merged, "Unchanged in all rows that were read: head, token."),
    ],
)
def test_the_change_in_words(told: Told, parent: models.Tensors, make: Callable[[models.Tensors, int], models.Tensors], words: str) -> None:
    assert words in told(make(parent, 4))


def test_signs_of_channels(told: Told, parent: models.Tensors) -> None:
    signs = np.random.default_rng(3).choice([-1.0, 1.0], models.HIDDEN).astype(np.float32)
    turned = {
        k: v if v.ndim == 1 else v * signs[:, None] if k.endswith(models.WRITING) else v * signs for k, v in parent.items()
    }  # gains stay: x and -x have one length
    assert "signs of channels turned" in told(turned)


def test_sizes_by_family(told: Told, parent: models.Tensors) -> None:
    rng = np.random.default_rng(3)
    sizes = {"self_attn": 0.05, "mlp": 0.2}
    child = dict(parent)
    for part, size in sizes.items():
        child |= {k: v + (size * v.std() * rng.standard_normal(v.shape)).astype(np.float32) for k, v in parent.items() if part in k}
    words = told(child)
    assert "attention 0.05" in words or "attention 0.04" in words
    assert "mlp 0.2" in words or "mlp 0.19" in words


def test_the_size_of_added_noise(told: Told, parent: models.Tensors) -> None:
    found = re.search(r"has: sd (0\.\d+) of each matrix's own spread", told(models.noised(parent, 4, 0.3)))
    assert found
    assert float(found[1]) == pytest.approx(0.3, abs=0.015)


def test_half_set_to_zero(told: Told, parent: models.Tensors) -> None:
    child = {k: np.where(np.abs(v) >= np.median(np.abs(v)), v, 0).astype(np.float32) if "_proj" in k else v for k, v in parent.items()}
    assert re.search(r"(49|50|51)% of the sampled numbers were set to zero", told(child))


def test_strangers_have_nothing_to_tell(told: Told) -> None:
    assert told(models.llama(2)) == ""


def test_a_coarse_grid_is_rounding_though_it_holds_zeros(told: Told, parent: models.Tensors) -> None:
    assert "a grid of about 4 bits" in told(rounded(parent, 4))
    assert "coarser rounding or another change" in told(rounded(parent, 3))


@pytest.fixture
def related(tmp_path: Path) -> Callable[[models.Tensors, models.Tensors], Relative]:
    def asked(ours: models.Tensors, theirs: models.Tensors) -> Relative:
        a, b = (models.fingerprint(tmp_path / name, tensors, dtype=np.float32) for name, tensors in (("ours", ours), ("theirs", theirs)))
        return measure_kin(a, b, "theirs", ALONE).relative

    return asked


def changes_of(relative: Relative) -> str:
    return " ".join(sentence for c in relative.components for sentence in c.changes)


def test_equal_matrices_have_no_size_of_a_change(parent: models.Tensors, related: Callable[..., Relative]) -> None:
    found = related(models.with_layers(parent, [0, 1, 2, 3, 4, 5, 5]), parent)
    assert found.relation == "layers rearranged"
    assert "Relative size" not in changes_of(found)


def test_a_grown_vocabulary_alone_is_no_training(parent: models.Tensors, related: Callable[..., Relative]) -> None:
    rows = np.random.default_rng(5).standard_normal((64, models.HIDDEN)).astype(np.float32)
    tables = {name: np.concatenate([value, rows]) for name, value in parent.items() if "embed_tokens" in name or "lm_head" in name}
    assert tables
    found = related({**parent, **tables}, parent)
    assert (found.relation, found.also) == ("vocabulary changed", ())


def test_equal_weights_beside_a_small_head_are_not_called_changed(related: Callable[..., Relative]) -> None:
    def body(seed: int) -> models.Tensors:
        random = np.random.default_rng(seed)
        scale = np.exp(0.3 * random.standard_normal((6, 96, 1)))
        tensors = {f"stem.stage_{at}.weight": (scale[at] * random.standard_normal((96, 96))).astype(np.float32) for at in range(6)}
        return tensors | {f"stem.stage_{at}.bias": random.standard_normal(96).astype(np.float32) for at in range(6)}

    random = np.random.default_rng(7)
    own = {"top.weight": random.standard_normal((7, 96)).astype(np.float32), "top.bias": random.standard_normal(7).astype(np.float32)}
    neck = {f"neck.part_{at}.weight": random.standard_normal((80, 96)).astype(np.float32) for at in range(6)}
    found = related({**body(1), **own}, {**body(1), **neck})
    assert found.relation == "transplanted"
    assert "fine-tuned" not in found.also
