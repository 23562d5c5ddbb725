"""TensorFlow's checkpoints, written byte by byte (benchmarks/formats/containers_reference.py holds checkpoints of TensorFlow itself)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from benchmarks.hostile.checkpoints import object_graph, tensorflow_files
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(13)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def save(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_variables_come_as_pytorch_lays_them_out(tmp_path: Path) -> None:
    dense, conv, depth, table = floats(8, 12), floats(3, 3, 4, 6), floats(3, 3, 6, 2), floats(30, 8)
    tensors = {
        "bert/encoder/layer_0/attention/self/query/kernel": dense,
        "bert/embeddings/word_embeddings": table,
        "bert/encoder/layer_0/output/LayerNorm/gamma": floats(8),
        "MobilenetV2/Conv/weights": conv,
        "MobilenetV2/expanded_conv/depthwise/depthwise_weights": depth,
        "model/h0/attn/c_attn/w": floats(1, 8, 24),
        "model/h0/attn/c_attn/b": floats(24),
        "half/kernel": floats(4, 6).astype(np.float16),
        "brain/kernel": floats(4, 6).astype(ml_dtypes.bfloat16),
    }
    found = read(save(tmp_path / "model", tensorflow_files(tensors)))
    assert np.array_equal(found["bert.encoder.layer.0.attention.self.query.weight"], dense.T)
    assert np.array_equal(found["bert.embeddings.word_embeddings"], table)
    assert np.array_equal(found["MobilenetV2.Conv.weight"], conv.transpose(3, 2, 0, 1))
    assert np.array_equal(found["MobilenetV2.expanded_conv.depthwise.depthwise.weight"], depth.transpose(2, 3, 0, 1).reshape(12, 1, 3, 3))
    assert np.array_equal(found["model.h0.attn.c_attn.weight"], tensors["model/h0/attn/c_attn/w"][0].T)
    assert np.array_equal(found["half.weight"], tensors["half/kernel"].T)
    assert np.array_equal(found["brain.weight"], tensors["brain/kernel"].astype(np.float32).T)
    assert len(found) == len(tensors)


def test_the_training_is_left_out(tmp_path: Path) -> None:
    weight = floats(8, 12)
    tensors = {
        "up/kernel": weight,
        "up/kernel/adam_m": floats(8, 12),
        "up/kernel/ExponentialMovingAverage": floats(8, 12),
        "model/up/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE": floats(8, 12),
        "optimizer/_variables/2/.ATTRIBUTES/VARIABLE_VALUE": floats(8, 12),
        "global_step": np.arange(1),
    }
    folder = save(tmp_path / "model", tensorflow_files(tensors))
    assert set(read(folder)) == {"up.weight"}
    with closing(open_source(folder)) as source:
        assert any(note.startswith("5 tensors of the optimizer") for note in source.notes)


def test_variables_bear_the_names_of_the_program(tmp_path: Path) -> None:
    kernel, bias = floats(8, 12), floats(12)
    keys = ["optimizer/_trainable_variables/0", "optimizer/_trainable_variables/1", "_all_variables/0"]
    keys = [f"{key}/.ATTRIBUTES/VARIABLE_VALUE" for key in keys]
    graph = object_graph({keys[0]: "sequential/up/kernel", keys[1]: "sequential/up/bias", keys[2]: "sequential/up/kernel"})
    files = tensorflow_files(dict(zip(keys, (kernel, bias, kernel), strict=True)), "variables", graph=graph)
    save(tmp_path / "model" / "variables", files)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\x01")
    found = read(tmp_path / "model")
    assert np.array_equal(found["sequential.up.weight"], kernel.T)
    assert found.keys() == {"sequential.up.weight", "sequential.up.bias"}


def test_variables_that_only_share_a_name_are_both_read(tmp_path: Path) -> None:
    keys = [f"model/layer-{n}/kernel/.ATTRIBUTES/VARIABLE_VALUE" for n in range(2)]
    graph = object_graph(dict.fromkeys(keys, "dense/kernel"))
    found = read(save(tmp_path / "model", tensorflow_files({keys[0]: floats(8, 12), keys[1]: floats(8, 12)}, graph=graph)))
    assert found.keys() == {"dense.weight", "model.layer-1.weight"}


def test_an_index_without_its_numbers_is_no_model(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", {"faiss.index": b"IxFI" + bytes(99)})
    with pytest.raises(SourceError, match="has no weights"):
        open_source(folder)
    index, data = tensorflow_files({"up/kernel": floats(8, 12)}).items()
    save(folder, dict([index]))
    with pytest.raises(SourceError, match="no such file"):
        open_source(folder / index[0])
    save(folder, dict([data]))
    assert set(read(folder / data[0])) == {"up.weight"}


def test_variables_in_slices_count_as_unread(tmp_path: Path) -> None:
    tensors = {"table": floats(30, 8), "up/kernel": floats(8, 12)}
    files = tensorflow_files(tensors, lies={"table": {"length": 0, "more": b"\x3a\x00"}})
    with closing(open_source(save(tmp_path / "model", files))) as source:
        assert source.unread == (("TensorFlow, variables in slices", 960),)


@pytest.mark.parametrize(
    ("lies", "problem"),
    [
        ({"shape": (8, 13)}, "contradict"),
        ({"shape": (2**30, 2**30)}, "contradict"),
        ({"shape": (2**50,)}, "impossible shape"),
        ({"start": 2**40}, "not within"),
        ({"file": 3}, "contradict"),
        ({"kind": 2}, "contradict"),
    ],
)
def test_entries_that_do_not_fit_are_refused(lies: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match=problem):
        open_source(save(tmp_path / "model", tensorflow_files({"up/kernel": floats(8, 12)}, lies={"up/kernel": lies})))


@pytest.mark.parametrize("lies", [{"shared": 9}, {"own": 2**30}, {"restarts": 2**31}, {"start": 2**40}, {"length": 3}, {"index": 2**40}])
def test_tables_that_do_not_fit_are_refused(lies: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile):
        open_source(save(tmp_path / "model", tensorflow_files({"up/kernel": floats(8, 12)}, table=lies)))


def test_numbers_with_the_big_end_first_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="big end first"):
        open_source(save(tmp_path / "model", tensorflow_files({"up/kernel": floats(8, 12)}, big=True)))
