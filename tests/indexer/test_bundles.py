"""Models for devices in bundles, and ExecuTorch's files, written byte by byte (containers_reference.py holds those of the libraries)."""

from __future__ import annotations

import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite

from benchmarks.hostile.bundles import litertlm_bytes, ptd_bytes, pte_bytes, task_bytes
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.tflite.graph import is_turn, turned
from tflite_files import Given, numbers, small, values, written

OP = tflite.BuiltinOperator


def opened(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    return open_source(folder / name)


def dense(weight: Any) -> bytes:
    return written([Given("in", shape=(1,)), Given("dense", weight)], [(OP.FULLY_CONNECTED, [0, 1], [0])])


@pytest.mark.parametrize("kind", [".litertlm", ".task"])
def test_all_models_of_a_bundle_are_read(kind: str, tmp_path: Path) -> None:
    one, two = numbers(5, 7), numbers(6, 8)
    models = {"prefill_decode": dense(one), "embedder": dense(two)}
    content = (
        litertlm_bytes(models) if kind == ".litertlm" else task_bytes({f"TF_LITE_{name.upper()}": data for name, data in models.items()})
    )
    source = opened(tmp_path, f"model{kind}", content)
    assert set(source.tensors) == {"prefill_decode.dense", "embedder.dense"}
    np.testing.assert_array_equal(values(source, "prefill_decode.dense"), one)
    np.testing.assert_array_equal(values(source, "embedder.dense"), two)
    assert any(note.startswith("It holds 2 models: ") for note in source.notes)


def test_models_of_one_name_are_both_read(tmp_path: Path) -> None:
    content = task_bytes({"a/x.tflite": dense(numbers(5, 7)), "b/x.tflite": dense(numbers(6, 8))})
    assert set(opened(tmp_path, "model.task", content).tensors) == {"x.dense", "x2.dense"}


def test_weights_outside_of_their_model_count_as_unread(tmp_path: Path) -> None:
    models = {"prefill_decode": dense(numbers(5, 7)), "weights": bytes(999)}
    source = opened(tmp_path, "model.litertlm", litertlm_bytes(models, {"weights": {"kind": 7}}))
    assert source.unread == (("LiteRT-LM, weights outside of their model", 999),)


def test_what_holds_no_model_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate([task_bytes({"METADATA2": b"x"}), task_bytes({"x.tflite": small()}, zipfile.ZIP_DEFLATED)]):
        with pytest.raises(UnsupportedFormat, match="holds no model of TFLite's"):
            opened(tmp_path, f"model{number}.task", content)
    with pytest.raises(UnsupportedFormat, match="version 2"):
        opened(tmp_path, "model.litertlm", litertlm_bytes({"x": small()}, version=2))


@pytest.mark.parametrize("lies", [{"begin": 0}, {"begin": 2**40}, {"end": 2**40}, {"end": 1}, {"begin": -1}, {"begin": 20_000}])
def test_sections_that_do_not_fit_are_refused(lies: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(DamagedFile):
        opened(tmp_path, "model.litertlm", litertlm_bytes({"x": small()}, {"x": lies}))


def test_weights_that_the_graph_turns_are_turned_back(tmp_path: Path) -> None:
    weight, table, size = numbers(6, 32), numbers(9, 32), 16
    matrix = turned(np.eye(size, dtype=np.float32), size)
    assert is_turn(matrix)
    assert not is_turn(numbers(size, size))
    tensors = [
        *[Given(name, shape=(2, size)) for name in ("in", "before", "between", "after", "out", "ids", "looked", "up", "turn")],
        Given("matrix", matrix),
        Given("dense", turned(weight, size)),
        Given("table", turned(table, size)),
        Given("plain", weight),
    ]
    operators = [
        (OP.RESHAPE, [0], [1]),
        (OP.FULLY_CONNECTED, [1, 9], [2]),
        (OP.RESHAPE, [2], [3]),
        (OP.FULLY_CONNECTED, [3, 10], [4]),
        (OP.EMBEDDING_LOOKUP, [5, 11], [6]),
        (OP.RESHAPE, [6], [7]),
        (OP.FULLY_CONNECTED, [7, 9], [8]),
        (OP.FULLY_CONNECTED, [0, 12], [4]),
    ]
    source = opened(tmp_path, "x.tflite", written(tensors, operators))
    assert set(source.tensors) == {"dense", "table", "plain"}
    np.testing.assert_allclose(values(source, "dense"), weight, atol=1e-6)
    np.testing.assert_allclose(values(source, "table"), table, atol=1e-6)
    np.testing.assert_array_equal(values(source, "plain"), weight)


def test_the_numbers_of_operators_in_older_files(tmp_path: Path) -> None:
    conv = numbers(4, 3, 2, 5)
    content = written([Given("in", shape=(1,)), Given("conv", conv)], [(OP.CONV_2D, [0, 1], [0])])
    model = tflite.Model.GetRootAsModel(bytearray(content), 0)
    code = model.OperatorCodes(0)
    older = bytearray(content)
    place = code._tab.Pos + code._tab.Offset(10)  # the field that older files do not have
    older[place : place + 4] = bytes(4)
    np.testing.assert_array_equal(values(opened(tmp_path, "x.tflite", bytes(older)), "conv"), conv.transpose(0, 3, 1, 2))


def test_quantised_constants_that_are_not_decoded_count_as_unread(tmp_path: Path) -> None:
    tensors = [Given("in", shape=(1,)), Given("dense", numbers(5, 7)), Given("codes", np.ones((40, 8), np.int8))]
    source = opened(tmp_path, "x.tflite", written(tensors, [(OP.FULLY_CONNECTED, [0, 1], [0])]))
    assert source.unread == (("TFLite, I8 with scales of another kind", 320),)


def test_tensors_of_executorch(tmp_path: Path) -> None:
    tensors = {"fc.weight": numbers(5, 7), "conv.weight": numbers(4, 3, 2, 5), "half": numbers(6, 8).astype(np.float16)}
    content = ptd_bytes(tensors | {"steps": np.arange(99)}, {"conv.weight": {"memory": (0, 2, 3, 1)}})
    with closing(opened(tmp_path, "model.ptd", content)) as source:
        assert set(source.tensors) == set(tensors)
        for name, array in tensors.items():
            np.testing.assert_array_equal(values(source, name), array)


def test_constants_of_a_program_and_what_a_delegate_has(tmp_path: Path) -> None:
    arrays = [numbers(5, 7), numbers(9)]
    with closing(opened(tmp_path, "model.pte", pte_bytes(arrays, bytes(800)))) as source:
        np.testing.assert_array_equal(values(source, "constant_1"), arrays[0])
        np.testing.assert_array_equal(values(source, "constant_2"), arrays[1])
        assert source.unread == (("ExecuTorch, packed for XnnpackBackend", 800),)


def test_a_program_without_weights_of_its_own_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"packed for XnnpackBackend\)\. Take the safetensors"):
        opened(tmp_path, "one.pte", pte_bytes([], bytes(800)))
    with pytest.raises(UnsupportedFormat, match=r"they are in a \.ptd file"):
        opened(tmp_path, "two.pte", pte_bytes([numbers(5, 7)], names=["fc.weight"], location=1))


@pytest.mark.parametrize(
    "lies", [{"shape": (5, 8)}, {"shape": (-5, -7)}, {"order": (0, 0)}, {"order": (1,)}, {"segment": 9}, {"start": 2**40}, {"size": 4}]
)
def test_tensors_that_do_not_fit_are_refused(lies: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        opened(tmp_path, "model.ptd", ptd_bytes({"fc.weight": numbers(5, 7)}, {"fc.weight": lies}))


@pytest.mark.parametrize(
    "lies", [{"shape": (2**30, 2**30)}, {"place": 2**40}, {"segment": 9}, {"buffer": 99}, {"start": 2**40}, {"order": (1, 1)}]
)
def test_programs_that_do_not_fit_are_refused(lies: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        opened(tmp_path, "model.pte", pte_bytes([numbers(5, 7)], **lies))
