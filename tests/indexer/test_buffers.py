"""What is left out by its name, and weights that only have such a name."""

from __future__ import annotations

from contextlib import closing
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelkin_data import name_tables
from modelkin_indexer.anatomy.parts import anatomy_of
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import Anatomy, TensorInfo

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I64": 8}
MODULE = "model.layers.0.mlp.up_proj"
QUANTISED = {"quantization_config": {"quant_method": "any"}}
FORMS = {"", "rotary", "mask", "scales"}


def anatomy(config: dict[str, Any] | None = None, **tensors: tuple[str, tuple[int, ...]]) -> Anatomy:
    """Of tensors of one module: their ending, dtype and shape."""
    infos = [TensorInfo(f"{MODULE}.{end}", dtype, shape, prod(shape) * BYTES.get(dtype, 1)) for end, (dtype, shape) in tensors.items()]
    return read_anatomy({info.name: info for info in infos}, config or {})


def constants(found: Anatomy) -> set[str]:
    return {name.removeprefix(f"{MODULE}.") for name in found.constants}


def test_the_forms_are_known() -> None:
    assert {rule.form for rule in name_tables().constants} == FORMS


NAMES = ["running_mean", "scales", "masks", "freqs_cis", "perm", "workspace", "weight_scale", "k_scale", "SCB", "CB", "inv_freq"]
NAMES += ["position_ids", "weights_sin", "attn.bias", "attention_mask", "masked_bias", "weight.absmax", "rotary_pos_emb", "g_idx"]


@pytest.mark.parametrize("ending", NAMES)
@pytest.mark.parametrize("shape", [(64, 640), (1, 64, 640), (3, 64, 64)])
def test_a_matrix_is_read_whatever_its_name(ending: str, shape: tuple[int, ...]) -> None:
    found = anatomy(weight=("F32", (640, 64)), **{ending: ("F32", shape)})
    name = f"{MODULE}.{ending}"
    assert (found.constants, found.unplaced) == ({}, (name,))
    assert [piece.place.family for piece in found.pieces if piece.views[0].tensor == name] == ["other"]


VECTORS = ["running_mean", "scales", "perm", "k_scale", "SCB", "inv_freq", "position_ids", "weight.absmax"]


@pytest.mark.parametrize("ending", VECTORS)
def test_vectors_and_integers_need_no_more_than_the_name(ending: str) -> None:
    """But integer matrices beside weights that are not quantised, which have no scales."""
    for shape in [(640,), (1, 640, 1)]:
        assert constants(anatomy(**{ending: ("F32", shape)})) == {ending}
    beside = {ending} if ending in ("running_mean", "inv_freq", "position_ids") else set()
    for dtype, shape in [("I32", (64, 640)), ("BOOL", (64, 64))]:
        assert constants(anatomy(**{ending: (dtype, shape)})) == beside
        assert constants(anatomy(weight=("BF16", (640, 640)), **{ending: (dtype, shape)})) == beside


def test_zero_points_are_few_beside_a_quantised_weight() -> None:
    for many, are_few in {(8, 64): True, (256, 512): False}.items():
        found = constants(anatomy(qweight=("I32", (64, 512)), qzeros=("I32", many)))
        assert (found == {"qzeros"}) is are_few


def whole_numbers(values: Any) -> Any:
    return np.round(30_000 * values / np.abs(values).max()).astype(np.int16)


HIDDEN = {
    "counts": ("bn.num_batches_tracked", lambda hidden: whole_numbers(hidden).ravel().astype(np.int64)),
    "groups": ("model.layers.0.mlp.up_proj.g_idx", whole_numbers),
    "bits": ("attention_mask", lambda hidden: np.unpackbits(hidden.astype(np.float16).view(np.uint8).ravel()).astype(bool)),
    "ranks": ("model.layers.0.mlp.up_proj.perm", lambda hidden: hidden.ravel().argsort().argsort().astype(np.int32)),
    "ranks of rows": ("position_ids", lambda hidden: hidden.ravel().argsort().argsort().astype(np.int32)),
}


@pytest.mark.parametrize("way", HIDDEN)
def test_weights_hidden_as_whole_numbers_lower_the_coverage(tmp_path: Path, way: str) -> None:
    rng, (name, stored) = np.random.default_rng(0), HIDDEN[way]
    hidden, weight = rng.standard_normal((2, 96, 640)).astype(np.float32)
    tensors = {"model.layers.0.mlp.up_proj.weight": weight, name: stored(hidden)}
    save_file(tensors, tmp_path / "model.safetensors")
    about = fingerprint_source(open_source(tmp_path)).about
    assert about.coverage == pytest.approx(weight.nbytes / sum(one.nbytes for one in tensors.values()), abs=1e-5)
    assert [one["what"].endswith(name) for one in about.unread] == [True]


def chunks(hidden: Any, name: str) -> dict[str, Any]:
    return {name.format(number): chunk for number, chunk in enumerate(hidden.reshape(-1, 640))}


@pytest.mark.parametrize("name", ["c.{}.k_scale", "c.{}.running_var", "l.{}.inv_freq", "layers.0.n{}.bias", "layers.{}.layernorm.weight"])
@pytest.mark.parametrize("level", ["probe", "full"])
def test_weights_cut_into_vectors_lower_the_coverage(tmp_path: Path, name: str, level: str) -> None:
    rng = np.random.default_rng(0)
    hidden, *weights = rng.standard_normal((4, 640, 640)).astype(np.float32)
    tensors = {f"model.layers.0.mlp.{role}_proj.weight": weight for role, weight in zip(("gate", "up", "down"), weights, strict=True)}
    save_file(tensors | chunks(np.abs(hidden), name), tmp_path / "model.safetensors")
    about = fingerprint_source(open_source(tmp_path), level=level).about
    assert 0.75 <= about.coverage < 0.77
    assert sum(one["bytes"] for one in about.unread) > 0.97 * hidden.nbytes


def test_gains_beside_them_tell_as_many_statistics_as_matrices_can_have(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    hidden, *weights = rng.standard_normal((4, 640, 640)).astype(np.float32)
    matrices = {f"convs.{number}.weight": weight for number, weight in enumerate(weights)}
    gains = chunks(1 + 0.1 * hidden, "bns.{}.weight")
    for many, coverage in {3: 1.0, 640: 0.5}.items():
        names = [f"bns.{number}" for number in range(many)]
        tensors = matrices | {f"{at}.weight": gains[f"{at}.weight"] for at in names}
        tensors |= {f"{at}.{end}": gains[f"{at}.weight"] for at in names for end in ("running_mean", "running_var")}
        save_file(tensors, tmp_path / "model.safetensors")
        assert fingerprint_source(open_source(tmp_path)).about.coverage == pytest.approx(coverage, abs=0.02)


def test_many_short_orders_count_once_they_are_no_small_share(tmp_path: Path) -> None:
    """The order of a GPTQ weight's columns is as long as a row; a thousand of them are a model of ranks."""
    rng = np.random.default_rng(0)
    weight = {"model.layers.0.mlp.up_proj.weight": rng.standard_normal((640, 640)).astype(np.float32)}
    for many, coverage in {1: 1.0, 320: 2 / 3}.items():
        orders = {f"model.layers.{one}.mlp.up_proj.perm": rng.permutation(640).astype(np.int32) for one in range(many)}
        save_file(weight | orders, tmp_path / "model.safetensors")
        about = fingerprint_source(open_source(tmp_path)).about
        assert about.constants.keys() == orders.keys()
        assert about.coverage == pytest.approx(coverage, abs=1e-5)
        assert bool(about.unread) == (coverage < 1)


def test_bytes_are_weights_too() -> None:
    assert anatomy(scales=("I8", (64, 640))).unplaced == (f"{MODULE}.scales",)


@pytest.mark.parametrize(
    ("weight", "dtype", "shape", "scales", "many"),
    [
        ("weight", "F8_E4M3", (512, 256), "weight_scale_inv", (4, 2)),
        ("weight", "I8", (512, 256), "weight_scale", (512, 2)),
        ("qweight", "I32", (32, 512), "scales", (16, 512)),
        ("weight", "U8", (512, 128), "weight_scale", (512, 16)),
        ("weight_packed", "I32", (512, 32), "weight_scale", (512, 2)),
    ],
)
def test_scales_stand_beside_a_quantised_weight(
    weight: str, dtype: str, shape: tuple[int, ...], scales: str, many: tuple[int, ...]
) -> None:
    assert constants(anatomy(**{weight: (dtype, shape), scales: ("F32", many)})) == {scales}


def test_scales_are_fewer_than_weights() -> None:
    assert not constants(anatomy(weight=("I8", (512, 256)), weight_scale=("F16", (512, 256))))
    assert not constants(anatomy(QUANTISED, weight=("BF16", (512, 256)), weight_scale=("F16", (512, 256))))


def test_a_config_may_tell_that_plain_numbers_are_quantised() -> None:
    tensors = {"weight": ("BF16", (512, 256)), "weight_scale": ("F16", (512, 8))}
    assert constants(anatomy(QUANTISED, **tensors)) == {"weight_scale"}
    assert not constants(anatomy(**tensors))


def test_rotary_tables_are_narrow_and_below_a_rotary_module() -> None:
    for name, is_table in {"rotary_emb.cos_cached": True, "rope.freqs": True, "cos_cached": False, "freqs_cis": False}.items():
        assert (constants(anatomy(**{name: ("F32", (4096, 64))})) == {name}) is is_table
    assert not constants(anatomy(**{"rotary_emb.cos_cached": ("F32", (64, 4096))}))


def test_masks_are_square_and_alone() -> None:
    for shape, is_mask in {(9, 9): True, (1, 1, 9, 9): True, (4, 9, 9): False, (1, 9, 9): False, (9, 8): False}.items():
        assert (constants(anatomy(**{"attn.bias": ("F32", shape)})) == {"attn.bias"}) is is_mask


def test_hidden_copies_lower_the_coverage_and_are_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = {f"model.layers.{layer}.mlp.up_proj.{end}" for layer in range(2) for end in ("weight", "scales", "running_mean")}
    save_file({name: rng.standard_normal((96, 64)).astype(np.float32) for name in sorted(names)}, tmp_path / "model.safetensors")
    found = fingerprint_source(open_source(tmp_path))
    assert (len(found.matrices.places), len(found.about.unplaced), found.about.constants) == (6, 4, {})
    assert found.about.coverage == pytest.approx(1 / 3, abs=1e-5)


def test_a_sinusoidal_table_is_found_by_what_it_holds(tmp_path: Path) -> None:
    angles = np.arange(256)[:, None] * np.exp(-np.log(10000.0) / 31 * np.arange(32))
    table = np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)
    weights = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    name = "model.encoder.embed_positions.weights_sin"
    save_file({name: table, "model.encoder.layers.0.fc1.weight": weights}, tmp_path / "model.safetensors")
    about = fingerprint_source(open_source(tmp_path)).about
    assert about.coverage == 1.0
    assert about.constants == {name: "sines and cosines of positions (a fixed table)"}


def test_renamed_buffers_are_found_by_what_they_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frequencies = (10000.0 ** -(np.arange(32) / 32)).astype(np.float32)
    angles = np.arange(128)[:, None] * np.concatenate([frequencies, frequencies])
    weights = {"q7.a": rng.standard_normal((96, 64)), "q7.b": rng.standard_normal((64, 96)), "q8.c": rng.standard_normal(64)}
    buffers = {
        "q0.f": frequencies,
        "q1.f": np.arange(128, dtype=np.int64)[None],
        "q2.f": np.tril(np.ones((1, 1, 64, 64), bool)),
        "q3.f": np.triu(np.full((64, 64), -65504, np.float32), 1),
        "q4.f": np.cos(angles).astype(np.float32),
        "q5.f": np.hstack([np.sin(angles[:, :32]), np.cos(angles[:, :32])]).astype(np.float32),
        "q6.f": np.arange(128, dtype=np.float32),
    }
    save_file({**{name: value.astype(np.float32) for name, value in weights.items()}, **buffers}, tmp_path / "model.safetensors")
    for level in ("probe", "full"):
        found = fingerprint_source(open_source(tmp_path), level=level)
        assert set(found.about.constants) == set(buffers)
        assert (found.about.coverage, found.about.unplaced) == (1.0, ())
        assert len(found.matrices.places) + len(found.vectors.places) == len(weights)


def test_weights_and_packed_weights_are_no_buffers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "a.packed": rng.integers(0, 2**31, (64, 64), dtype=np.int64),
        "b.bits": rng.integers(0, 2, (64, 64)).astype(bool),
        "c.decays": np.sort(rng.uniform(0.01, 1, 64).astype(np.float32))[::-1].copy(),
        "d.matrix": rng.standard_normal((64, 64)).astype(np.float32),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    found = fingerprint_source(open_source(tmp_path))
    assert (found.about.constants, found.about.unplaced) == ({}, ("a.packed", "b.bits"))


def test_one_structure_is_read_once_and_values_are_looked_at_where_names_claim(tmp_path: Path) -> None:
    """A second model of the same names and shapes has the kept anatomy, but for what its values refute."""
    weight = np.random.default_rng(0).standard_normal((96, 640)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(96 * 640).astype(np.int32)
    found = {}
    for name, numbers in (("counted", np.arange(96 * 640, dtype=np.int32)), ("hidden", shuffled)):
        save_file({f"{MODULE}.weight": weight, "position_ids": numbers}, tmp_path / f"{name}.safetensors")
        with closing(open_source(tmp_path / f"{name}.safetensors")) as source:
            found[name] = anatomy_of(source)
    assert "position_ids" in found["counted"].constants
    assert "position_ids" not in found["hidden"].constants
    for name in ("a", "b"):
        save_file({f"{MODULE}.weight": weight * len(found)}, tmp_path / f"{name}.safetensors")
        with closing(open_source(tmp_path / f"{name}.safetensors")) as source:
            found[name] = anatomy_of(source)
    assert found["a"] is found["b"]
    with closing(open_source(tmp_path / "a.safetensors")) as source:
        assert found["a"] is not anatomy_of(source, {"num_attention_heads": 4})
