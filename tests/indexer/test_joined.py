"""Matrices that are stored as products of two tensors, or cut into two, are read as one; tensors that only look so are left as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import models
from benchmarks.hostile import transforms
from benchmarks.hostile.transforms import Net, Singles, Transform
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.joined.source import JoinedSource
from modelkin_indexer.opening import open_source
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.sources.stored import values
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import measure_kin

LAYERS, WIDTH, MIDDLE = 3, models.HIDDEN, models.NEURONS
PARTS: tuple[Transform, ...] = (transforms.as_products, transforms.as_uneven_products, transforms.rows_split, transforms.columns_split)
Q = "model.layers.0.self_attn.q_proj"


def net(seed: int = 1) -> Net:
    return Net(models.llama(seed, LAYERS), {**models.CONFIG, "num_hidden_layers": LAYERS, "num_key_value_heads": models.HEADS}, None)


def saved(folder: Path, tensors: Mapping[str, Singles], config: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir()
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(one, np.float32) for name, one in tensors.items()}, folder / "model.safetensors"
    )
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("transform", PARTS, ids=lambda one: one.__name__)
def test_every_matrix_is_read_whole(tmp_path: Path, transform: Transform, configured: bool) -> None:
    whole = net()
    stored = transform(whole, np.random.default_rng(3)).tensors
    source = open_source(saved(tmp_path / "m", stored, whole.config if configured else None))
    assert isinstance(source, JoinedSource)
    assert {name: info.shape for name, info in source.tensors.items()} == {name: one.shape for name, one in whole.tensors.items()}
    assert f"{7 * LAYERS} matrices" in source.notes[-1]
    for name, one in whole.tensors.items():
        info = source.tensors[name]
        for start, stop in ((0, info.nbytes), (4 * 5, min(4 * (one.shape[-1] + 3), info.nbytes))):  # a span across rows too
            found = values.decode(info.dtype, source.read(name, start, stop))
            np.testing.assert_allclose(found, one.reshape(-1)[start // 4 : stop // 4], atol=2e-6 if "product" in transform.__name__ else 0)
    source.close()


@pytest.mark.parametrize("level", ["probe", "full"])
@pytest.mark.parametrize("transform", PARTS, ids=lambda one: one.__name__)
def test_a_copy_stored_so_is_a_copy(tmp_path: Path, transform: Transform, level: str) -> None:
    stored = [net().tensors, transform(net(), np.random.default_rng(3)).tensors, transform(net(2), np.random.default_rng(3)).tensors]
    whole, parts, stranger = (fingerprint_source(open_source(saved(tmp_path / str(n), one)), level=level) for n, one in enumerate(stored))
    kin = measure_kin(parts, whole, "whole", ALONE).relative
    assert is_descent(kin)
    assert kin.compared == 1
    assert not is_descent(measure_kin(stranger, whole, "whole", ALONE).relative)


def left(tmp_path: Path, tensors: Mapping[str, Singles]) -> bool:
    source = open_source(saved(tmp_path / "m", tensors))
    source.close()
    return not isinstance(source, JoinedSource)


def drawn(*shape: int) -> Singles:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def replaced(parts: Mapping[str, Singles]) -> dict[str, Singles]:
    """A model whose first queries are stored as these parts."""
    return {name: one for name, one in net().tensors.items() if name != f"{Q}.weight"} | {f"{Q}{end}": one for end, one in parts.items()}


@pytest.mark.parametrize(("one", "other"), [(".0", ".1"), ("_A", "_B"), (".u", ".v"), ("_top", "_bottom"), (".left", ".right")])
def test_one_matrix_alone_is_put_together(tmp_path: Path, one: str, other: str) -> None:
    first, second = drawn(WIDTH // 2, WIDTH), 2 * drawn(WIDTH // 2, WIDTH)
    source = open_source(saved(tmp_path / "m", replaced({f"{other}.weight": second, f"{one}.weight": first})))
    assert isinstance(source, JoinedSource)
    info = source.tensors[f"{Q}.weight"]
    found = values.decode(info.dtype, source.read(info.name, 0, info.nbytes)).reshape(info.shape)
    np.testing.assert_array_equal(found, np.concatenate([first, second]))
    source.close()


def test_factors_of_any_inner_size_are_multiplied_in_the_order_that_fits(tmp_path: Path) -> None:
    inner, outer = drawn(9, WIDTH), drawn(WIDTH, 9)
    for number, (one, other) in enumerate(((inner, outer), (outer, inner))):
        source = open_source(saved(tmp_path / str(number), replaced({".down.weight": one, ".up.weight": other})))
        info = source.tensors[f"{Q}.weight"]
        found = values.decode(info.dtype, source.read(info.name, 0, info.nbytes)).reshape(info.shape)
        np.testing.assert_allclose(found, outer @ inner, atol=1e-4)
        source.close()


@pytest.mark.parametrize(
    "parts",
    [
        {".0.weight": drawn(8, WIDTH), ".2.weight": drawn(WIDTH, 8)},  # something stands between them
        {".0.weight": drawn(8, WIDTH), ".1.weight": drawn(8, WIDTH), ".2.weight": drawn(WIDTH, 8)},
        {".0.weight": drawn(40, WIDTH), ".1.weight": drawn(40, WIDTH)},  # not the rows that the output has columns
        {".0.weight": drawn(8, WIDTH), ".1.weight": drawn(WIDTH, 9)},
        {".weight": drawn(WIDTH, WIDTH), ".0.weight": drawn(8, WIDTH), ".1.weight": drawn(WIDTH, 8)},  # the matrix is there
        {".lora.a.weight": drawn(8, WIDTH), ".lora.b.weight": drawn(WIDTH, 8)},
        {".re.weight": drawn(WIDTH, WIDTH), ".im.weight": drawn(WIDTH, WIDTH)},
    ],
)
def test_what_may_be_something_else_is_left_as_it_is(tmp_path: Path, parts: dict[str, Singles]) -> None:
    assert left(tmp_path, replaced(parts))


@pytest.mark.parametrize(
    "names",
    [
        ("encoder.block.0.layer.1.DenseReluDense.wi_0", "encoder.block.0.layer.1.DenseReluDense.wi_1"),  # gate and up
        ("encoder.layers.0.feed_forward.w_1", "encoder.layers.0.feed_forward.w_2"),  # an activation stands between them
        ("classifier.0", "classifier.1"),
        ("model.layers.0.mlp.experts.0.w1", "model.layers.0.mlp.experts.0.w2"),
    ],
)
def test_names_that_are_known_mean_what_they_say(tmp_path: Path, names: tuple[str, str]) -> None:
    shape = (WIDTH, WIDTH)
    tensors = net().tensors | {f"{name}.weight": drawn(*shape) for name in names}
    assert left(tmp_path, tensors)


def test_a_factor_too_large_to_hold_is_not_multiplied_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("modelkin_indexer.joined.source.MOST_HELD", WIDTH * WIDTH)
    stored = transforms.as_products(net(), np.random.default_rng(3)).tensors
    source = open_source(saved(tmp_path / "m", stored))
    assert isinstance(source, JoinedSource)
    assert isinstance(source.tensors[f"{Q}.weight"], TensorInfo)
    assert "model.layers.0.mlp.down_proj.0.weight" in source.tensors  # the first factor has the numbers of [MIDDLE, MIDDLE]
    source.close()


@pytest.mark.parametrize(("width", "is_left"), [(1000, True), (100, False)])
def test_a_small_file_stands_for_no_huge_matrix(tmp_path: Path, width: int, is_left: bool) -> None:
    """Of rank 1 a product has half as many numbers for each that is stored as its width."""
    tensors = {"model.norm.weight": drawn(width), f"{Q}.down.weight": drawn(1, width), f"{Q}.up.weight": drawn(width, 1)}
    assert left(tmp_path, tensors) == is_left
