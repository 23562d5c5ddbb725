"""Copies that compute the same from other stored numbers: found, or told as not examined; and strangers are told as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import models
from benchmarks.hostile import transforms
from benchmarks.hostile.loss import log_shares, loss
from benchmarks.hostile.transforms import Net, Singles, Transform
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_registry.answers.parts import NOT_EXAMINED, NOTHING_FOUND, RELATED
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints
from modelkin_registry.registry import Registry
from modelkin_registry.relations import lengths as lengths_of
from modelkin_registry.relations.pairs import measure_kin

LAYERS, TOKENS = 4, 512
KEPT: tuple[Transform, ...] = (
    transforms.folded,
    transforms.rotated,
    transforms.channels_permuted,
    transforms.signs_flipped,
    transforms.neurons_permuted,
    transforms.heads_permuted,
    transforms.keys_rescaled,
    transforms.values_turned,
    transforms.units_rescaled,
    transforms.padded,
    transforms.units_padded,
    transforms.null_units,
)


def net(seed: int) -> Net:
    """A model of which each layer's matrices have sizes of their own, as training leaves them."""
    random, tensors = np.random.default_rng(seed), models.llama(seed, LAYERS)
    tensors = {name: values[:TOKENS] if len(values) == models.VOCABULARY else values for name, values in tensors.items()}
    tensors = {name: values * np.float32(random.uniform(0.8, 1.2)) if values.ndim == 2 else values for name, values in tensors.items()}
    told = {"num_hidden_layers": LAYERS, "num_key_value_heads": models.HEADS, "vocab_size": TOKENS, "rms_norm_eps": 1e-6}
    return Net(tensors, {**models.CONFIG, **told, "rope_parameters": {"rope_theta": 10000.0}}, None)


@pytest.mark.parametrize("transform", KEPT, ids=lambda transform: transform.__name__)
def test_the_transforms_change_no_output(transform: Transform) -> None:
    before, random = net(1), np.random.default_rng(5)
    tokens = random.integers(0, TOKENS, (2, 20))
    after = transform(before, random)
    assert any(not np.array_equal(values, after.tensors[name]) for name, values in before.tensors.items())
    np.testing.assert_allclose(log_shares(after, tokens), log_shares(before, tokens), atol=1e-3)
    assert loss(after, tokens) == pytest.approx(loss(before, tokens), abs=1e-3)


@pytest.mark.parametrize("transform", [transforms.as_products, transforms.as_uneven_products])
def test_products_are_the_matrices(transform: Transform) -> None:
    before = net(1)
    after = transform(before, np.random.default_rng(5)).tensors
    stem = "model.layers.0.mlp.up_proj"
    first, second = [values.astype(np.float64) for name, values in sorted(after.items()) if name.startswith(stem)]
    np.testing.assert_allclose(second @ first, before.tensors[f"{stem}.weight"], atol=1e-5)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("lossless")
    opened = Registry.open(folder / "r.db")
    for seed in (1, 2, 3):
        opened.add(f"model-{seed}", models.fingerprint(folder / f"{seed}", net(seed).tensors, dtype=np.float32))
    return opened


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
@pytest.mark.parametrize("more", [(), (transforms.neurons_permuted, transforms.heads_permuted), (transforms.null_units, transforms.padded)])
def test_turned_and_moved_is_not_nothing_found(registry: Registry, tmp_path: Path, more: tuple[Transform, ...], dtype: type | str) -> None:
    moved, random = net(1), np.random.default_rng(7)
    for step in (transforms.rotated, transforms.vocabulary_moved, *more):
        moved = step(moved, random)
    stored = {"dtype": dtype} if dtype != "bfloat16" else {}
    query = models.fingerprint(tmp_path / "moved", moved.tensors, **stored)  # type: ignore[arg-type]
    answer = registry.query(query, source="moved")
    assert answer.examined is not None
    assert (answer.verdict, answer.examined.same_lengths) == (NOT_EXAMINED, ("model-1",))
    assert "model-1's, place by place" in answer.explanation[0]
    compared = compare_fingerprints(query, registry.get("model-1"), a_name="moved", b_name="model-1", controls={}, judge=ALONE)
    assert compared.verdict == NOT_EXAMINED
    assert answer.explanation[0].startswith(compared.explanation[0])


@pytest.mark.parametrize("transform", [transforms.as_products, transforms.rows_split])
def test_what_is_stored_in_parts_and_turned_is_told_with_its_reason(registry: Registry, tmp_path: Path, transform: Transform) -> None:
    random = np.random.default_rng(7)
    moved = transform(transforms.rotated(net(1), random), random)
    answer = registry.query(models.fingerprint(tmp_path / "moved", moved.tensors), source="moved")
    assert answer.verdict in (RELATED, NOT_EXAMINED)
    assert answer.verdict == RELATED or "stored in parts" in answer.explanation[0]


def test_strangers_are_told_as_before(registry: Registry, tmp_path: Path) -> None:
    answer = registry.query(models.fingerprint(tmp_path / "x", net(9).tensors), source="x")
    assert answer.verdict == NOTHING_FOUND
    assert answer.explanation[0].startswith("No relative by descent was found")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("sampled")
    opened = Registry.open(folder / "r.db")
    for seed in (1, 2, 3):
        opened.add(f"model-{seed}", models.fingerprint(folder / f"{seed}", net(seed).tensors, level="probe", dtype=np.float32))
    return opened


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
@pytest.mark.parametrize("turn", [transforms.channels_permuted, transforms.signs_flipped, transforms.rotated])
@pytest.mark.parametrize("more", [(), (transforms.neurons_permuted, transforms.heads_permuted, transforms.vocabulary_moved)])
def test_level_probe_tells_that_it_does_not_see_other_coordinates(
    sampled: Registry, tmp_path: Path, turn: Transform, more: tuple[Transform, ...], dtype: type | str
) -> None:
    moved, random = net(1), np.random.default_rng(7)
    for step in (turn, *more):
        moved = step(moved, random)
    stored = {"dtype": dtype} if dtype != "bfloat16" else {}
    query = models.fingerprint(tmp_path / "moved", moved.tensors, level="probe", **stored)  # type: ignore[arg-type]
    answer = sampled.query(query, source="moved")
    assert answer.examined is not None
    assert answer.verdict == NOT_EXAMINED
    every = ("model-1", "model-2", "model-3")
    rotated = turn is transforms.rotated
    assert answer.examined.same_gains == (() if rotated else ("model-1",))
    assert answer.examined.may_be_turned == (every if rotated else ())
    assert "level full does" in answer.explanation[0]
    compared = compare_fingerprints(query, sampled.get("model-1"), a_name="moved", b_name="model-1", controls={}, judge=ALONE)
    assert compared.verdict == NOT_EXAMINED
    assert "level full does" in compared.explanation[0]


def test_the_original_of_a_rotated_model_is_not_examined_at_level_probe_either(tmp_path: Path) -> None:
    turned = models.fingerprint(tmp_path / "t", transforms.rotated(net(1), np.random.default_rng(7)).tensors, level="probe")
    own = models.fingerprint(tmp_path / "o", net(1).tensors, level="probe")
    with Registry.open(tmp_path / "r.db") as opened:
        opened.add("turned", turned)
        answer = opened.query(own, source="own")
    assert answer.examined is not None
    assert (answer.verdict, answer.examined.may_be_turned) == (NOT_EXAMINED, ("turned",))


def test_strangers_are_told_as_before_at_level_probe(sampled: Registry, tmp_path: Path) -> None:
    stranger = net(9)
    answer = sampled.query(models.fingerprint(tmp_path / "x", stranger.tensors, level="probe"), source="x")
    assert answer.verdict == NOTHING_FOUND
    start = {name: np.ones_like(values) if values.ndim == 1 else values for name, values in models.initialised(9).items()}
    answer = sampled.query(models.fingerprint(tmp_path / "start", start, level="probe"), source="start")
    assert answer.examined is not None
    assert not answer.examined.may_be_turned  # its gains are ones since nobody has trained it


def test_gains_of_strangers_with_one_distribution_are_not_the_same_numbers(tmp_path: Path) -> None:
    """Nine sorted quantiles of gains that follow one law for each layer differ, as do their means."""
    found = []
    for seed in (1, 2):
        random, tensors = np.random.default_rng(seed), net(seed).tensors
        for number, name in enumerate(sorted(name for name in tensors if tensors[name].ndim == 1)):
            tensors[name] = (0.3 + 0.1 * number + 0.05 * random.standard_normal(tensors[name].shape)).astype(np.float32)
        found.append(models.fingerprint(tmp_path / str(seed), tensors, level="probe"))
    assert not measure_kin(*found, "other", ALONE).same_gains


def test_starts_of_one_recipe_have_no_lengths_in_common(tmp_path: Path) -> None:
    """Drawn with one spread, another one for each layer: what they share is the recipe, and its lengths differ by chance."""
    found = []
    for seed in (1, 2):
        random, start = np.random.default_rng(seed), models.llama(seed)
        for name, values in start.items():
            if values.ndim == 2:
                depth = int(name.split(".")[2]) if ".layers." in name else 0
                start[name] = (0.02 / np.sqrt(depth + 1) * random.standard_normal(values.shape)).astype(np.float32)
        found.append(models.fingerprint(tmp_path / str(seed), start, dtype=np.float32))
    assert not measure_kin(*found, "start", ALONE).same_lengths


def of_length_one(values: Singles) -> Singles:
    """Every row scaled to length 1, as training with normalised weights leaves them."""
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("part", ["_proj.weight", "o_proj.weight", "layers."])
def test_strangers_with_normalised_weights_have_no_lengths_in_common(tmp_path: Path, part: str) -> None:
    found = []
    for seed in (1, 2):
        tensors = {name: of_length_one(value) if part in name and value.ndim == 2 else value for name, value in net(seed).tensors.items()}
        found.append(models.fingerprint(tmp_path / str(seed), tensors, dtype=np.float32))
    assert not measure_kin(*found, "other", ALONE).same_lengths


def test_strangers_of_several_widths_with_normalised_weights_have_none_either(tmp_path: Path) -> None:
    found = []
    for seed in (1, 2):
        random, tensors = np.random.default_rng(seed), {}
        for stage, width in enumerate((32, 48, 64, 96)):
            for block in range(2):
                for name in ("conv1", "conv2"):
                    kernels = random.laplace(size=(width, width * 9)).astype(np.float32)
                    tensors[f"layer{stage + 1}.{block}.{name}.weight"] = of_length_one(kernels).reshape(width, width, 3, 3)
        path = tmp_path / f"{seed}.safetensors"
        safetensors.numpy.save_file(tensors, path)
        found.append(fingerprint_source(open_source(path), level="full"))
    assert not measure_kin(*found, "other", ALONE).same_lengths


def test_models_of_very_many_matrices_are_told_apart() -> None:
    def lengths(seed: int) -> dict[tuple[str, str, str], lengths_of.Lengths]:
        sizes, layers = np.random.default_rng(seed).normal(size=(12, 150)), np.arange(150)
        near, moved = np.full(150, 1e-3), np.zeros(150, np.bool_)
        return {("", "mlp", str(role)): lengths_of.Lengths(layers, np.tile(one, (4, 1)), near, moved) for role, one in enumerate(sizes)}

    ours, theirs = lengths(1), lengths(2)
    assert lengths_of._probability(ours, theirs, untouched=False) > 1e-3
    theirs["", "mlp", "0"] = ours["", "mlp", "0"]
    assert lengths_of._probability(ours, theirs, untouched=False) < 1e-50


def test_lengths_are_not_told_where_numbers_agree(tmp_path: Path) -> None:
    """A drawn model of which little was changed: its lengths are equal because its numbers are, and these agree."""
    random, start = np.random.default_rng(1), models.llama(1, LAYERS)
    drawn = {name: 0.02 * random.standard_normal(w.shape) if w.ndim == 2 else np.ones(w.shape) for name, w in start.items()}
    start = {name: values.astype(np.float32) for name, values in drawn.items()}
    changed = dict(start)
    for name in (name for name in start if "q_proj" in name):
        changed[name] = start[name] + (0.01 * random.standard_normal(start[name].shape)).astype(np.float32)
    found = [models.fingerprint(tmp_path / str(number), one, dtype=np.float32) for number, one in enumerate((start, changed))]
    kin = measure_kin(*found, "other", ALONE)
    assert kin.relative.relation == "shared initialisation"
    assert (kin.same_lengths, kin.same_gains, kin.may_be_turned) == (False, False, False)
