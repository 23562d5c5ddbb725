"""TFLite models: constants with their orientation and scales; damaged files are refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkin_indexer.errors import DamagedFile, SourceError
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from tflite_files import RANDOM, Given, numbers, small, values, written


def opened(folder: Path, content: bytes) -> Source:
    (folder / "x.tflite").write_bytes(content)
    return open_source(folder / "x.tflite")


def test_kernels_are_turned_and_the_rest_is_as_stored(tmp_path: Path) -> None:
    op = tflite.BuiltinOperator
    conv, depth, back, dense = numbers(4, 3, 2, 5), numbers(1, 3, 3, 6), numbers(4, 2, 2, 3), numbers(5, 7)
    tensors = [Given("in", shape=(1,)), Given("conv", conv), Given("depth", depth), Given("back", back), Given("dense", dense)]
    tensors += [Given("half", conv.astype(np.float16)), Given("widened", shape=conv.shape), Given("axes", np.arange(4, dtype=np.int32))]
    operators = [
        (op.CONV_2D, [0, 1], [0]),
        (op.DEPTHWISE_CONV_2D, [0, 2], [0]),
        (op.TRANSPOSE_CONV, [7, 3, 0], [0]),
        (op.FULLY_CONNECTED, [0, 4], [0]),
        (op.DEQUANTIZE, [5], [6]),
        (op.CONV_2D, [0, 6], [0]),
    ]
    source = opened(tmp_path, written(tensors, operators))
    assert list(source.tensors) == ["back", "conv", "dense", "depth", "half"]
    np.testing.assert_array_equal(values(source, "conv"), conv.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(values(source, "depth"), depth.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(values(source, "back"), back.transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(values(source, "half"), conv.astype(np.float16).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(values(source, "dense"), dense)
    assert source.notes == ("Constants of the graph that are no weights were left out: 1 I32.",)
    assert source.quantization == ""


def test_whole_numbers_become_weights(tmp_path: Path) -> None:
    op = tflite.BuiltinOperator
    stored = RANDOM.integers(-127, 128, (4, 3, 2, 5)).astype(np.int8)
    depth = RANDOM.integers(-127, 128, (1, 3, 3, 6)).astype(np.int8)
    table = RANDOM.integers(0, 256, (9, 8)).astype(np.uint8)
    scale, slices = np.array([0.5, 0.25, 2.0, 0.125]), np.arange(1, 7) / 8
    tensors = [
        Given("in", shape=(1,)),
        Given("conv", stored, scale, np.zeros(4)),
        Given("depth", depth, slices, np.zeros(6), axis=3),
        Given("table", table, [0.5], [128]),
    ]
    source = opened(tmp_path, written(tensors, [(op.CONV_2D, [0, 1], [0]), (op.DEPTHWISE_CONV_2D, [0, 2], [0])]))
    np.testing.assert_array_equal(values(source, "conv"), (stored * scale.reshape(4, 1, 1, 1)).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(values(source, "depth"), (depth * slices).transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(values(source, "table"), (table.astype(np.float32) - 128) * 0.5)
    assert source.quantization == "TFLite int8"


def test_names_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    assert list(opened(tmp_path, small()).tensors) == ["conv", "dense", "dense.2"]


def test_scales_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    content = written([Given("x", np.ones((4, 4), np.int8), [1.0, 2.0, 3.0], [0, 0, 0])], [])
    with pytest.raises(DamagedFile, match="has 3 scales for shape"):
        opened(tmp_path, content)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    content = small()
    for length in range(0, len(content), 7):
        with contextlib.suppress(SourceError):
            source = opened(tmp_path, content[:length])
            for name in source.tensors:
                values(source, name)
            source.close()
    with pytest.raises(SourceError):
        opened(tmp_path, content[: len(content) // 2])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError):
        source = opened(tmp_path_factory.mktemp("x"), bytes(content))
        for name in source.tensors:
            source.read(name, 0, source.tensors[name].nbytes)
        source.close()
