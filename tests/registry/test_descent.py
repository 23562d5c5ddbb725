"""What a random start gives to anybody is no descent, however much of it two models share; what was learned is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

import models
from modelkin_indexer import sketch
from modelkin_indexer.anatomy.constants.fixed_tables import table_reason
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.relations import DESCENT_FREE
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.standing import chi_square_p
from modelkin_registry.explanation.compare import compare_fingerprints

Tensors = dict[str, npt.NDArray[np.float32]]
Ask = Callable[..., CompareAnswer]
LEVELS = ("full", "probe")


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """What `compare` says of two sets of tensors."""

    def printed(name: str, tensors: Tensors, level: str, config: dict[str, object] | None) -> Fingerprint:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        file = "adapter_model.safetensors" if config else "model.safetensors"
        safetensors.numpy.save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / file)
        if config:
            (folder / "adapter_config.json").write_text(json.dumps(config))
        source = open_source(folder)
        try:
            return fingerprint_source(source, level=level)
        finally:
            source.close()

    def asked(a: Tensors, b: Tensors, level: str = "full", config: dict[str, object] | None = None) -> CompareAnswer:
        sides = [printed(name, tensors, level, config) for name, tensors in (("a", a), ("b", b))]
        return compare_fingerprints(*sides, a_name="a", b_name="b", controls={}, judge=ALONE)

    return asked


def learned_apart(start: Tensors, seed: int, size: float, gains: float = 0.03) -> Tensors:
    """A start after a run of its own: changes of a few directions in every matrix, and gains that moved a little."""
    rng, out = np.random.default_rng(seed), {}
    for name, value in start.items():
        if value.ndim == 1:
            out[name] = value + (gains * rng.standard_normal(value.shape)).astype(np.float32)
            continue
        change = rng.standard_normal((len(value), 3)) @ rng.standard_normal((3, value.shape[1]))
        out[name] = (value + size * value.std() / change.std() * change).astype(np.float32)
    return out


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [0.05, 0.2, 0.5, 1.0])
def test_runs_of_one_start_are_no_descendants(ask: Ask, size: float, level: str) -> None:
    start = models.initialised(1)
    a, b = learned_apart(start, 2, size), learned_apart(start, 3, size)
    assert ask(a, b, level).relation == "shared initialisation"
    assert ask(a, start, level).relation == "shared initialisation"
    assert ask(learned_apart(start, 4, 0.1), b, level).relation == "shared initialisation"
    assert "as far as a common start explains" in ask(a, b, level).explanation[0]
    assert ask(a, b, level).lone == ()


@pytest.mark.parametrize("level", LEVELS)
def test_training_on_is_found_without_norms(ask: Ask, level: str) -> None:
    """Only matrices: what the parent learned is in the child and in its sibling."""
    start = {name: value for name, value in models.initialised(1).items() if value.ndim == 2}
    parent = learned_apart(start, 2, 1.0)
    child, sibling = learned_apart(parent, 3, 0.1), learned_apart(parent, 4, 0.1)
    assert ask(child, parent, level).relation not in DESCENT_FREE
    assert ask(child, sibling, level).relation not in DESCENT_FREE


@pytest.mark.parametrize("level", LEVELS)
def test_long_further_training_is_found_where_gains_have_learned_little(ask: Ask, level: str) -> None:
    """What the parent's matrices learned is wholly in the child: a run of the same start has as much of its own, and none of that."""
    start = models.initialised(1)
    parent = learned_apart(start, 2, 1.0, gains=0.015)
    child, other = learned_apart(parent, 3, 1.0, gains=0.015), learned_apart(start, 4, 1.0, gains=0.015)
    assert ask(child, parent, level).relation not in DESCENT_FREE
    assert ask(parent, child, level).relation not in DESCENT_FREE
    assert ask(other, parent, level).relation == "shared initialisation"
    assert ask(other, child, level).relation == "shared initialisation"
    same_gains = {name: parent[name] if value.ndim == 1 else value for name, value in other.items()}
    assert ask(learned_apart(same_gains, 5, 0.0, gains=0.015), parent, level).relation == "shared initialisation"


@pytest.mark.parametrize("level", LEVELS)
def test_a_public_table_in_strangers_is_no_descent(ask: Ask, level: str) -> None:
    """Both began with the token table that a seed gives, and hardly moved it."""
    table = np.random.default_rng(0).standard_normal((models.VOCABULARY, models.HIDDEN)).astype(np.float32)
    sides = []
    for seed in (1, 2):
        rng, moved = np.random.default_rng(seed), table.copy()
        moved[rng.integers(0, models.VOCABULARY, 50)] += 1
        sides.append({**models.llama(seed), "model.embed_tokens.weight": moved})
    answer = ask(*sides, level)
    assert answer.relation == "shared initialisation"
    assert [one.name for one in answer.lone] == ["text.embedding.token"]
    assert "agree in one matrix (text.embedding.token, r " in answer.explanation[0]
    assert "initialisation" not in " ".join(answer.explanation)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cleared", [("embed_tokens", "lm_head"), ("embed_tokens",)])
def test_a_model_with_its_token_tables_cleared_is_not_contained(ask: Ask, cleared: tuple[str, ...], level: str) -> None:
    parent = models.llama(1)
    without = {name: np.zeros_like(w) if name.split(".")[-2] in cleared else w for name, w in parent.items()}
    answer = ask(without, parent, level)
    assert (answer.relation, answer.extra) == ("transplanted", 0.0)
    headless = {name: w for name, w in parent.items() if "lm_head" not in name}
    assert ask(headless, parent, level).relation == "identical"


@pytest.mark.parametrize("level", LEVELS)
def test_gains_that_are_set_to_one_are_in_no_other_coordinates(ask: Ask, level: str) -> None:
    """Folded into the matrices that read them they are."""
    parent = models.llama(1)
    reset = {name: np.ones_like(w) if w.ndim == 1 else w for name, w in parent.items()}
    for sides in ((reset, parent), (parent, reset)):
        answer = ask(*sides, level)
        assert answer.relation == "fine-tuned"
        assert "reparameterised" not in answer.also
    if level == "full":
        assert ask(models.gains_folded(parent), parent, level).relation == "reparameterised"


def public_table() -> npt.NDArray[np.float32]:
    """Filters of a wave under a bell each, at several angles: no formula of the indexer tells them."""
    y, x = np.meshgrid(np.arange(12) - 5.5, np.arange(12) - 5.5, indexing="ij")
    angles, sizes = np.arange(16) * np.pi / 16, (1.3, 2.1, 2.9)
    bank = [np.exp(-(x**2 + y**2) / (2 * s**2)) * np.cos(2.4 * (x * np.cos(a) + y * np.sin(a)) / s + a) for s in sizes for a in angles]
    return np.stack(bank).reshape(len(bank), -1).astype(np.float32)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("layers", [1, 6])
def test_one_public_table_in_every_layer_of_strangers_is_no_descent(ask: Ask, layers: int, level: str) -> None:
    """Mostly the table: all of either side's weights that can be compared at all."""
    shapes = (models.llama(1), {name: value[:64] for name, value in models.llama(2).items()})
    fronts = {f"model.layers.{layer}.mlp.up_proj.weight": public_table() for layer in range(layers)}
    sides = [{**{name: value for name, value in shape.items() if "mlp" not in name}, **fronts} for shape in shapes]
    assert table_reason(public_table()) == ""
    answer = ask(*sides, level)
    assert answer.relation in DESCENT_FREE
    assert [(one.layers, one.r) for one in answer.lone] == ([(1, 1.0)] if layers == 1 else [])  # in every layer: no layer stands out
    assert "a common start:" not in " ".join(answer.explanation)


@pytest.mark.parametrize("level", LEVELS)
def test_cleared_and_constant_matrices_of_strangers_agree_in_nothing(ask: Ask, level: str) -> None:
    """All of either number: what rounding leaves of them, and of what is taken out of them, is alike in every model."""
    strangers = [{name: w for name, w in models.llama(seed).items() if "layers" not in name or ".0." in name} for seed in (1, 2)]
    for value, other in ((1 / 9, 1 / 9), (0.25, 0.4), (1.0, 1e-3)):
        sides = [
            {name: np.full_like(w, one) if "mlp" in name else w for name, w in tensors.items()}
            for tensors, one in zip(strangers, (value, other), strict=True)
        ]
        assert ask(*sides, level).relation == "unrelated"


def test_copies_of_an_untrained_network_are_told_as_such(ask: Ask) -> None:
    start = models.initialised(1)
    untrained, trained = ask(start, start), ask(models.llama(1), models.llama(1))
    assert untrained.relation == trained.relation == "identical"
    assert any("untrained" in sentence for sentence in untrained.explanation)
    assert not any("untrained" in sentence for sentence in trained.explanation)


RANK = 8
LORA: dict[str, object] = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": ["q_proj"], "base_model_name_or_path": "x"}


def adapter(seed: int, learned: int, moved: float = 0.1) -> Tensors:
    """Factors for four projections in six layers: A from the seed, moved a little; B learned."""
    start, own, out = np.random.default_rng(seed), np.random.default_rng(learned), {}
    for layer in range(6):
        for name in ("q", "k", "v", "o"):
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}_proj.lora_"
            first = start.uniform(-0.1, 0.1, (RANK, 96))
            out[at + "A.weight"] = (first + moved * first.std() * own.standard_normal(first.shape)).astype(np.float32)
            out[at + "B.weight"] = (0.02 * own.standard_normal((96, RANK))).astype(np.float32)
    return out


@pytest.mark.parametrize("level", LEVELS)
def test_adapters_of_one_seed_are_strangers(ask: Ask, level: str) -> None:
    relation = ask(adapter(1, 2), adapter(1, 3), level, LORA).relation
    assert relation == ("shared initialisation" if level == "full" else "unrelated")
    assert ask(adapter(1, 2), adapter(4, 3), level, LORA).relation == "unrelated"


@pytest.mark.parametrize("level", LEVELS)
def test_what_an_adapter_became_is_found(ask: Ask, level: str) -> None:
    parent = adapter(1, 2)
    rng = np.random.default_rng(5)
    for size in (0.2, 0.45):
        further = {name: value + size * value.std() * rng.standard_normal(value.shape).astype(np.float32) for name, value in parent.items()}
        assert ask(further, parent, level, LORA).relation not in DESCENT_FREE
    assert ask({name: value.astype(np.float16) for name, value in parent.items()}, parent, level, LORA).relation == "recast"


def classifier(seed: int, width: int = 96) -> Tensors:
    """One hidden layer that reads what all such classifiers read: rows along the directions of the data, neurons in no order."""
    data = np.random.default_rng(9).standard_normal((64, 64)) * (0.8 ** np.arange(64))
    rng = np.random.default_rng(seed)
    sizes = np.exp(0.3 * rng.standard_normal((width, 1)))
    return {
        "layers.0.weight": (0.2 * sizes * (rng.standard_normal((width, 64)) @ data.T)).astype(np.float32),
        "layers.0.bias": (0.1 * rng.standard_normal(width)).astype(np.float32),
        "head.weight": (0.1 * rng.standard_normal((10, width))).astype(np.float32),
    }


def test_a_layer_that_reads_what_all_read_is_no_evidence(ask: Ask) -> None:
    """Its Gram matrix is the data's; the same numbers in another order are another matter."""
    one, other = classifier(1), classifier(2)
    found = ask(one, other)
    assert max(f.channels.get("gram") or 0 for c in found.components for f in c.families) > 0.7
    assert found.relation == "unrelated"
    order = np.random.default_rng(3).permutation(96)
    turned = {name: value[order] if name.startswith("layers") else value[:, order] for name, value in one.items()}
    assert ask(turned, one).relation not in DESCENT_FREE


def kernels(seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    sizes = [np.exp(0.4 * rng.standard_normal((32, 1, 1, 1))) for _ in range(24)]
    return {f"backbone.conv{n}.weight": (size * rng.standard_normal((32, 32, 3, 3))).astype(np.float32) for n, size in enumerate(sizes)}


@pytest.mark.parametrize("level", LEVELS)
def test_a_few_kernels_that_are_shared_are_found(ask: Ask, level: str) -> None:
    """Three of 24 kernels at r about 0.8: the mean over all shows nothing."""
    one, other = kernels(1), kernels(2)
    for name in ("backbone.conv3.weight", "backbone.conv9.weight", "backbone.conv20.weight"):
        other[name] = one[name] + 0.7 * one[name].std() * np.random.default_rng(5).standard_normal(one[name].shape).astype(np.float32)
    answer = ask(other, one, level)
    assert answer.relation not in ("unrelated", "not comparable")
    family = next(f for c in answer.components for f in c.families if f.family == "conv")
    assert family.places == 3
    assert ask(kernels(3), one, level).relation == "unrelated"


def test_chi_square() -> None:
    assert chi_square_p(10, 10) == pytest.approx(0.4405, rel=0.02)
    assert chi_square_p(29.588, 10) == pytest.approx(1e-3, rel=0.1)
    assert 5.9e-13 < chi_square_p(60, 3) < 1e-10


def test_rows_put_in_to_agree_support_nothing(ask: Ask) -> None:
    """A stranger with another model's rows in the places that the public key looks at: the whole matrices contradict it."""
    victim, forger = models.llama(1), dict(models.llama(2))
    for name, value in forger.items():
        if value.ndim == 2:
            forger[name] = value.copy()
            for block in sketch.chosen_rows(PUBLIC_KEY, *value.shape):
                forger[name][block.start : block.stop] = victim[name][block.start : block.stop]
    forged = ask(forger, victim)
    bodies = [f for c in forged.components for f in c.families if f.family in ("attention", "mlp")]
    assert bodies
    assert all(f.contradicted and not f.inherited for f in bodies)
    assert any("contradict" in sentence for sentence in forged.explanation)
    assert forged.relation in DESCENT_FREE
