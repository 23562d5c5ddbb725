"""Keras files, written by h5py as Keras writes them (benchmarks/formats/containers_reference.py holds files of Keras itself)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks.hostile.written import keras_archive, keras_bytes
from modelkin_indexer.errors import SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(3)


def written(path: Path, layers: dict[str, list[Any]], names: dict[str, str] | None = None, **options: Any) -> Path:
    """A `.weights.h5`: the numbered variables of each layer."""
    with h5py.File(path, "w") as file:
        for layer, variables in layers.items():
            group = file.create_group(f"{layer}/vars")
            if names and layer in names:
                group.attrs["name"] = names[layer]
            for number, array in enumerate(variables):
                group.create_dataset(str(number), data=array, **options)
    return path


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def test_kernels_come_as_pytorch_lays_them_out(tmp_path: Path) -> None:
    dense, conv, depth, norm, table = floats(8, 12), floats(3, 3, 4, 6), floats(3, 3, 4, 1), [floats(8) for _ in range(4)], floats(20, 8)
    layers = {"layers/dense_3": [dense, floats(12)], "layers/conv2d": [conv], "layers/depthwise_conv2d": [depth]}
    layers |= {"layers/batch_normalization": norm, "layers/embedding": [table], "optimizer": [floats(8, 12)]}
    found = read(written(tmp_path / "m.weights.h5", layers, {"layers/dense_3": "up", "layers/embedding": "tokens"}))
    assert np.array_equal(found["up.weight"], dense.T)
    assert np.array_equal(found["conv2d.weight"], conv.transpose(3, 2, 0, 1))
    assert np.array_equal(found["depthwise_conv2d.weight"], depth.transpose(2, 3, 0, 1))
    assert np.array_equal(found["batch_normalization.running_var"], norm[3])
    assert np.array_equal(found["tokens.weight"], table)
    assert len(found) == 9  # nothing of the optimizer


def test_heads_are_told_by_the_width_of_the_model(tmp_path: Path) -> None:
    reads, writes, first = floats(16, 2, 6), floats(2, 6, 16), floats(2, 16, 6)
    layers = {"layers/a/key_dense": [reads, floats(2, 6)], "layers/a/output_dense": [writes], "layers/b/query": [first]}
    found = read(written(tmp_path / "m.weights.h5", {**layers, "layers/layer_normalization": [floats(16)]}))
    assert np.array_equal(found["a.key_dense.weight"], reads.reshape(16, 12).T)
    assert np.array_equal(found["a.output_dense.weight"], writes.reshape(12, 16).T)
    assert np.array_equal(found["b.query.weight"], first.transpose(0, 2, 1).reshape(12, 16))


def test_names_of_transformers_are_its_own_models(tmp_path: Path) -> None:
    weight, gain = floats(8, 12), floats(8)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["bert/tf_bert/bert/encoder/layer_._1/attention/self/query/kernel:0"] = weight
        file["bert/tf_bert/bert/encoder/layer_._1/output/LayerNorm/gamma:0"] = gain
    found = read(tmp_path / "tf_model.h5")
    assert np.array_equal(found["tf_bert.bert.encoder.layer.1.attention.self.query.weight"], weight.T)
    assert np.array_equal(found["tf_bert.bert.encoder.layer.1.output.LayerNorm.weight"], gain)


def test_int8_is_divided_by_its_scale(tmp_path: Path) -> None:
    weight, table = floats(40, 24), floats(50, 16)
    scale, rows = 127 / np.abs(weight).max(0), 127 / np.abs(table).max(1)
    layers = {"layers/dense": [np.rint(weight * scale).astype(np.int8), floats(24), scale.astype(np.float32)]}
    layers |= {"layers/embedding": [np.rint(table * rows[:, None]).astype(np.int8), rows.astype(np.float32)]}
    found = read(written(tmp_path / "m.weights.h5", layers))
    assert np.abs(found["dense.weight"] - weight.T).max() < 0.02
    assert np.abs(found["embedding.weight"] - table).max() < 0.02


@pytest.mark.parametrize("outputs", [24, 23])
def test_int4_in_groups(outputs: int, tmp_path: Path) -> None:
    codes = RNG.integers(-8, 8, (40, outputs))
    scale, zero = RNG.random((3, outputs)).astype(np.float32) + 0.5, RNG.integers(-8, 8, (3, outputs)).astype(np.int8)
    group = np.arange(40) // 16
    padded = np.pad(codes, ((0, 0), (0, outputs % 2)))
    packed = ((padded[:, ::2] & 15) | (padded[:, 1::2] & 15) << 4).astype(np.uint8).view(np.int8)
    found = read(written(tmp_path / "m.weights.h5", {"layers/dense": [packed, floats(outputs), scale, zero, group.astype(np.float32)]}))
    assert np.allclose(found["dense.weight"], ((codes - zero[group]) * scale[group]).T)


def test_int4_of_older_versions_is_not_taken_for_int8(tmp_path: Path) -> None:
    weight = floats(256, 64)
    scale = 7 / np.abs(weight).max(0)
    codes = np.rint(weight * scale).astype(int)
    packed = ((codes[::2] & 15) | (codes[1::2] & 15) << 4).astype(np.uint8).view(np.int8)
    path = written(tmp_path / "m.weights.h5", {"layers/dense": [packed, scale.astype(np.float32)], "layers/dense_1": [weight]})
    with closing(open_source(path)) as source:
        assert list(source.tensors) == ["dense_1.weight"]
        assert source.unread == (("Keras, int4 packed along the inputs", packed.nbytes),)


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"chunks": (7, 5)}]
)
def test_chunks(options: dict[str, Any], tmp_path: Path) -> None:
    table = floats(50, 17)
    path = written(tmp_path / "m.weights.h5", {"layers/embedding": [table]}, **options)
    assert np.array_equal(read(path)["embedding.weight"], table)
    with closing(open_source(path)) as source:
        some = source.read("embedding.weight", 13 * 68 + 4, 29 * 68)
        assert some.tobytes() == table.tobytes()[13 * 68 + 4 : 29 * 68]


@pytest.mark.parametrize("libver", ["earliest", "latest", ("v108", "v108")])
def test_versions_of_hdf5(libver: Any, tmp_path: Path) -> None:
    table = floats(50, 17)
    with h5py.File(tmp_path / "m.weights.h5", "w", libver=libver) as file:
        file["layers/embedding/vars/0"] = table
    assert np.array_equal(read(tmp_path / "m.weights.h5")["embedding.weight"], table)


def test_many_links_of_newer_hdf5_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.weights.h5", "w", libver="latest") as file:
        for number in range(40):
            file[f"layers/embedding_{number}/vars/0"] = floats(4, 4)
    with pytest.raises(UnsupportedFormat, match=r"newer HDF5 writes.*Save the weights again"):
        open_source(tmp_path / "m.weights.h5")


def test_another_file_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(keras_bytes({"fc.weight": floats(4, 4)}))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("other.h5", "layers")
    with pytest.raises(SourceError, match="link to another file"):
        open_source(tmp_path / "m.h5")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["table"] = np.arange(3)
    with pytest.raises(UnsupportedFormat, match="none of Keras"):
        open_source(tmp_path / "m.h5")


def test_an_archive_is_read_where_its_weights_lie(tmp_path: Path) -> None:
    weight = floats(300, 200)
    (tmp_path / "m.keras").write_bytes(keras_archive(keras_bytes({"fc.weight": weight})))
    with closing(open_source(tmp_path / "m.keras")) as source:
        before = source.bytes_read
        source.read("fc.weight", 0, 800)
        assert before < 20_000
        assert source.bytes_read == before + 800
    assert np.array_equal(read(tmp_path / "m.keras")["fc.weight"], weight)


@pytest.mark.parametrize("leaves", [("running_mean", "running_var"), ("bias", "running_mean", "running_var")])
def test_statistics_of_a_normalisation_without_a_gain_are_no_gains(leaves: tuple[str, ...], tmp_path: Path) -> None:
    vectors = [floats(8) for _ in leaves]
    found = read(written(tmp_path / "m.weights.h5", {"layers/batch_normalization": vectors, "layers/dense": [floats(8, 12)]}))
    for leaf, vector in zip(leaves, vectors, strict=True):
        assert np.array_equal(found[f"batch_normalization.{leaf}"], vector)


def test_gates_of_a_gru_stand_in_pytorchs_order(tmp_path: Path) -> None:
    kernel, recurrent, bias, lstm = floats(5, 24), floats(8, 24), floats(2, 24), [floats(5, 32), floats(8, 32)]
    found = read(written(tmp_path / "m.weights.h5", {"layers/gru/cell": [kernel, recurrent, bias], "layers/lstm/cell": lstm}))
    order = [*range(8, 16), *range(8), *range(16, 24)]
    assert np.array_equal(found["gru.cell.weight"], kernel[:, order].T)
    assert np.array_equal(found["gru.cell.recurrent.weight"], recurrent[:, order].T)
    assert np.array_equal(found["gru.cell.bias"].reshape(2, 24), bias[:, order])
    assert np.array_equal(found["lstm.cell.weight"], lstm[0].T)
