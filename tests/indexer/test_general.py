"""Models whose names no table knows: places by words, stacks by what comes again, families by shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import models
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import NO_LAYER, Anatomy, TensorInfo
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.sides import warnings_about
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.explanation.compare import compare_fingerprints

Shapes = dict[str, tuple[int, ...]]
SWIN = {
    f"net.encoder.stages.{stage}.blocks.{block}.{name}": shape
    for stage, blocks in ((0, 2), (1, 3))
    for block in range(blocks)
    for name, shape in {
        "attention.self.query.weight": (16, 16),
        "attention.output.dense.weight": (16, 16),
        "intermediate.dense.weight": (64, 16),
        "output.dense.weight": (16, 64),
        "layernorm_before.weight": (16,),
    }.items()
} | {f"net.encoder.stages.{stage}.downsample.reduction.weight": (16, 32) for stage in (0, 1)}
PROTEIN = {  # a message-passing net, as ProteinMPNN names its layers
    f"{side}_layers.{layer}.{name}": shape
    for side, edges in (("encoder", 64), ("decoder", 96))
    for layer in range(3)
    for name, shape in {
        "W1.weight": (32, edges),
        "W2.weight": (32, 32),
        "W3.weight": (32, 32),
        "dense.W_in.weight": (128, 32),
        "dense.W_out.weight": (32, 128),
        "dense.W_in.bias": (128,),
        "norm1.weight": (32,),
        "norm2.bias": (32,),
    }.items()
} | {"W_s.weight": (21, 32), "W_out.weight": (21, 32), "features.edge_embedding.weight": (32, 416)}
NAMELESS = dict(
    zip((f"onnx::MatMul_{number}" for number in range(97, 102)), [(24, 40), (40, 32), (40, 32), (3000, 40), (16, 3, 3, 3)], strict=True)
)


def anatomy(shapes: Shapes) -> Anatomy:
    return read_anatomy({name: TensorInfo(name, "F32", shape, 4 * prod(shape)) for name, shape in shapes.items()}, {})


def places(found: Anatomy) -> dict[str, tuple[int, str, str]]:
    return {piece.views[0].tensor: (piece.place.layer, piece.place.family, piece.place.role) for piece in found.pieces}


def test_blocks_inside_stages_are_layers_and_what_stands_beside_them_is_not() -> None:
    found = anatomy(SWIN)
    assert found.layers == {"text": 5}
    at = places(found)
    for stage, block, layer in ((0, 1, 4), (1, 0, 0), (1, 2, 2)):
        front = f"net.encoder.stages.{stage}.blocks.{block}."
        assert at[f"{front}attention.self.query.weight"] == (layer, "attention", "q")
        assert at[f"{front}output.dense.weight"] == (layer, "mlp", "down")
        assert at[f"{front}layernorm_before.weight"] == (layer, "norm", "attention_input")
    assert at["net.encoder.stages.1.downsample.reduction.weight"][0] == NO_LAYER
    assert (found.unplaced, found.guessed) == ((), ())


def test_layers_of_a_message_passing_net() -> None:
    found = anatomy(PROTEIN)
    assert found.unplaced == ()
    assert sum(found.layers.values()) == 6
    families = {name: family for name, (_, family, _) in places(found).items()}
    assert {families[f"encoder_layers.1.{name}.weight"] for name in ("W1", "W2", "dense.W_in", "dense.W_out")} == {"mlp"}
    assert (families["decoder_layers.2.norm1.weight"], families["decoder_layers.2.norm2.bias"]) == ("norm", "bias")
    assert families["features.edge_embedding.weight"] == "embedding"


def test_without_any_word_shapes_are_guessed_at_and_it_is_said() -> None:
    found = anatomy(NAMELESS)
    assert set(found.guessed) == set(NAMELESS) - {"onnx::MatMul_101"}  # nothing but a convolution has four axes
    assert sorted(family for _, family, _ in places(found).values()) == ["conv", "embedding", "mlp", "mlp", "mlp"]


@pytest.mark.parametrize(
    ("name", "shape", "family"),
    [
        ("encoder.rnn.weight_hh_l1", (64, 16), "ssm"),
        ("features.12.0.weight", (32, 16, 3, 3), "conv"),
        ("backbone.bn1.weight", (32,), "norm"),
        ("model/conv2d_3/Conv2D_weights_fused_bn", (32, 16, 3, 3), "conv"),
        ("model/dense_3/MatMul_weights_fused_bn", (32, 16), "mlp"),
        ("model/dense_3/Conv2D_bias_fused_bn", (32,), "norm"),
        ("blocks.3.temporalAttention.toQ.weight", (32, 32), "attention"),
        ("blocks.3.FeedForward.lin.weight", (64, 32), "mlp"),
        ("blocks.3.moe.experts.gate_and_up.weight", (4, 64, 32), "expert"),
        ("net.blocks.3.MixedRouter.weight", (4, 32), "router"),
        ("my_pos_embedding.table", (64, 32), "position"),
        ("speaker_embedding.weight", (64, 32), "embedding"),
        ("net.bbox_head.weight", (4, 32), "head"),
    ],
)
def test_words_tell_the_family(name: str, shape: tuple[int, ...], family: str) -> None:
    found = anatomy({name: shape})
    assert [(piece.place.family, found.unplaced) for piece in found.pieces] == [(family, ())]


def fingerprint(folder: Path, shapes: Shapes, seed: int, noise: float = 0.0) -> Fingerprint:
    rng = np.random.default_rng(seed)
    weights = {name: _learned(rng, shape) for name, shape in shapes.items()}
    rng = np.random.default_rng(99)
    weights = {name: value + np.float32(noise) * rng.standard_normal(value.shape, dtype=np.float32) for name, value in weights.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    return fingerprint_source(open_source(folder))


def _learned(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that no random start has: their rows differ in norm. White numbers could show a common start at most."""
    values = rng.standard_normal(shape) * np.exp(0.7 * rng.standard_normal((*shape[:-1], 1)))
    return values.astype(np.float32)


@pytest.mark.parametrize("shapes", [SWIN, PROTEIN, NAMELESS], ids=["stages", "message passing", "nameless"])
def test_copies_are_found_and_strangers_are_not_accused(shapes: Shapes, tmp_path: Path) -> None:
    parent, copy, tuned, stranger = (
        fingerprint(tmp_path / str(number), shapes, seed, noise) for number, (seed, noise) in enumerate([(0, 0), (0, 0), (0, 0.1), (1, 0)])
    )
    relations = [
        compare_fingerprints(side, parent, a_name="a", b_name="b", controls={}, judge=ALONE).relation for side in (copy, tuned, stranger)
    ]
    assert relations[0] == "identical"
    assert relations[1] in ("fine-tuned", "noised")
    assert relations[2] == "unrelated"


def test_guessed_places_are_told(tmp_path: Path) -> None:
    found = fingerprint(tmp_path / "model", NAMELESS, 0)
    assert (found.about.guessed, found.about.coverage) == (pytest.approx(0.9966, abs=1e-4), 1.0)
    assert any("guessed from shapes alone" in warning for warning in warnings_about(found, "model"))
    assert not any("guessed" in warning for warning in warnings_about(fingerprint(tmp_path / "other", SWIN, 0), "other"))


def hashed(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


def numbered_inside_layers(name: str) -> str:
    """Layers keep their number, everything else is lost."""
    parts = name.split(".")
    at = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    return f"body.{parts[at]}.{hashed('.'.join(parts[at + 1 :]))}.t" if at is not None else f"{hashed(name)}.t"


@pytest.mark.parametrize(
    ("rename", "layers"), [(hashed, {}), (numbered_inside_layers, {"text": models.LAYERS})], ids=["hashed", "layers left"]
)
def test_under_names_that_tell_nothing_copies_are_found_strangers_not_and_the_guess_is_told(
    rename: Callable[[str], str], layers: dict[str, int], tmp_path: Path
) -> None:
    def renamed(folder: str, tensors: models.Tensors) -> Fingerprint:
        plain = {rename(name): values for name, values in tensors.items()}
        return fingerprint_source(open_source(models.write(tmp_path / folder, plain, config={})))

    parent = models.llama(1)
    sides = [renamed(str(number), side) for number, side in enumerate((parent, parent, models.noised(parent, 3, 0.1), models.llama(2)))]
    assert (sides[0].about.layers, sides[0].about.guessed, sides[0].about.coverage) == (layers, 1.0, 1.0)
    relations = [compare_fingerprints(side, sides[0], a_name="a", b_name="b", controls={}, judge=ALONE).relation for side in sides[1:]]
    assert relations == ["identical", "noised", "unrelated"]
    assert any("guessed from shapes alone" in warning for warning in warnings_about(sides[0], "model"))


def test_a_table_of_three_axes_without_a_name_makes_no_ear_of_a_model() -> None:
    """It may be a stack of experts as well as a convolution over time."""
    shapes = {f"{letter * 8}": (40, 40) for letter in "abc"} | {"d" * 8: (600, 40), "e" * 8: (8, 40, 128)}
    assert {piece.place.component for piece in anatomy(shapes).pieces} == {"text"}
    named = {name if len(shape) < 3 else "conv1.weight": shape for name, shape in shapes.items()}
    assert {piece.place.component for piece in anatomy(named).pieces} == {"audio"}
