"""Paddle's checkpoints and parameters, written byte by byte (benchmarks/formats/containers_reference.py holds files of Paddle itself)."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from benchmarks.hostile.written import paddle_parameters, paddle_pickle, paddle_program
from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(8)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def write(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value, 4))
    return path


def test_linear_layers_are_told_by_the_parameters_own_names(tmp_path: Path) -> None:
    linear, table, conv = floats(8, 300), floats(70, 8), floats(6, 3, 2, 2)
    state = {"fc.weight": ("linear_3.w_0", linear), "embed.weight": ("embedding_0.w_0", table), "conv.weight": ("conv2d_0.w_0", conv)}
    found = read(write(tmp_path / "m.pdparams", state))
    assert np.array_equal(found["fc.weight"], linear.T)
    assert np.array_equal(found["embed.weight"], table)
    assert np.array_equal(found["conv.weight"], conv)


def test_names_of_older_versions_and_checkpoints_of_a_training(tmp_path: Path) -> None:
    linear = floats(8, 300)
    state = {"fc.weight": linear, "StructuredToParameterName@@": {"fc.weight": "linear_0.w_0"}}
    assert np.array_equal(read(write(tmp_path / "a.pdparams", state))["fc.weight"], linear.T)
    found = read(write(tmp_path / "b.pdparams", {"epoch": 3, "model": state}))
    assert np.array_equal(found["fc.weight"], linear.T)


def test_a_bias_tells_where_no_name_does(tmp_path: Path) -> None:
    linear = floats(12, 12)
    found = read(write(tmp_path / "m.pdparams", {"fc.weight": linear, "fc.bias": floats(12), "embed.weight": floats(12, 12)}))
    assert np.array_equal(found["fc.weight"], linear.T)


def test_uint16_is_bfloat16(tmp_path: Path) -> None:
    table = floats(40, 30).astype(ml_dtypes.bfloat16)
    found = read(write(tmp_path / "m.pdparams", {"embed.weight": table.view(np.uint16)}))
    assert np.array_equal(found["embed.weight"], table.astype(np.float32))


def test_arrays_in_fortran_order(tmp_path: Path) -> None:
    table = floats(50, 40)
    assert np.array_equal(read(write(tmp_path / "m.pdparams", {"embed.weight": np.asfortranarray(table)}))["embed.weight"], table)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(paddle_pickle({f"l{n}.weight": floats(300, 200) for n in range(8)}))
    with closing(open_source(path)) as source:
        assert source.bytes_read < 5000
        before = source.bytes_read
        source.read("l3.weight", 400, 1200)
        assert source.bytes_read == before + 800


def test_a_pickle_that_would_call_is_refused_by_what_it_would_call(tmp_path: Path) -> None:
    (tmp_path / "m.pdparams").write_bytes(b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(UnsupportedFormat, match=r"would call 'os\.system'"):
        open_source(tmp_path / "m.pdparams")
    (tmp_path / "n.pdparams").write_bytes(pickle.dumps({"a": floats(300, 4)}, 2))
    with pytest.raises(UnsupportedFormat, match="protocol 4"):
        open_source(tmp_path / "n.pdparams")


def test_parameters_have_the_names_of_the_program(tmp_path: Path) -> None:
    weights = {"a": floats(300, 8), "b": floats(9, 7)}
    (tmp_path / "inference.pdiparams").write_bytes(paddle_parameters(weights))
    with closing(open_source(tmp_path)) as source:
        assert list(source.tensors) == ["parameter_00000", "parameter_00001"]
        assert "numbers for names" in source.notes[0]
    (tmp_path / "inference.json").write_bytes(paddle_program(weights))
    found = read(tmp_path)
    assert np.array_equal(found["linear_0.weight"], weights["a"])
    assert np.array_equal(found["linear_1.weight"], weights["b"])
    (tmp_path / "inference.json").write_bytes(paddle_program({"a": 1}))
    with closing(open_source(tmp_path)) as source:
        assert "names 1 parameters, not 2" in source.notes[0]


def test_an_older_program_names_them_too(tmp_path: Path) -> None:
    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    kept = [field(3, field(1, name) + field(2, b"\x08\x07") + b"\x18\x01") for name in (b"linear_1.w_0", b"linear_0.w_0")]
    other = field(3, field(1, b"feed") + field(2, b"\x08\x09") + b"\x18\x01")
    (tmp_path / "m.pdmodel").write_bytes(field(1, b"\x08\x00" + other + b"".join(kept)))
    (tmp_path / "m.pdiparams").write_bytes(paddle_parameters({"a": floats(30, 8), "b": floats(9, 7)}))
    assert set(read(tmp_path / "m.pdiparams")) == {"linear_0.weight", "linear_1.weight"}


def test_a_shape_past_the_end(tmp_path: Path) -> None:
    (tmp_path / "m.pdiparams").write_bytes(paddle_parameters({"a": floats(30, 8)}, {"a": {"shape": (8, 31)}}))
    with pytest.raises(DamagedFile, match="past its end"):
        open_source(tmp_path / "m.pdiparams")
