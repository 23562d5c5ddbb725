"""CTranslate2's model.bin: the values and places of the model it was converted from; damaged files are refused."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source

DTYPES = ("float32", "int8", "int16", "int32", "float16")
RANDOM = np.random.default_rng(0)


def text(words: str) -> bytes:
    return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"


def written(variables: dict[str, Any], aliases: dict[str, str] | None = None, version: int = 6) -> bytes:
    """A file as CTranslate2's `ModelSpec._serialize` writes it."""
    out = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", DTYPES.index(str(value.dtype)), value.nbytes) + value.tobytes()
    out += struct.pack("<I", len(aliases or {}))
    return out + b"".join(text(alias) + text(name) for alias, name in (aliases or {}).items())


def opened(folder: Path, content: bytes) -> Source:
    (folder / "model.bin").write_bytes(content)
    return open_source(folder / "model.bin")


def numbers(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def values(source: Source, name: str) -> Any:
    info = source.tensors[name]
    return source.read(name, 0, info.nbytes).view({"F32": np.float32, "F16": np.float16}[info.dtype]).reshape(info.shape)


def tiny() -> dict[str, Any]:
    """One layer of each side of a speech model, and one of its settings."""
    variables = {"encoder/num_heads": np.int16(2), "encoder/conv1/weight": numbers(8, 3, 3), "decoder/embeddings/weight": numbers(20, 8)}
    for side in ("encoder", "decoder"):
        at = f"{side}/layer_0"
        variables[f"{at}/self_attention/linear_0/weight"] = numbers(24, 8)
        variables[f"{at}/self_attention/linear_1/weight"] = numbers(8, 8)
        variables[f"{at}/self_attention/layer_norm/gamma"] = numbers(8)
        variables[f"{at}/ffn/linear_0/weight"] = numbers(32, 8)
        variables[f"{side}/layer_norm/gamma"] = numbers(8)
    variables["decoder/layer_0/attention/linear_1/weight"] = numbers(16, 8)
    return {name: np.asarray(value) for name, value in variables.items()}


def test_places_and_values_of_a_pair(tmp_path: Path) -> None:
    variables = tiny()
    source = opened(tmp_path, written(variables, {"decoder/projection/weight": "decoder/embeddings/weight"}))
    stored = variables["encoder/layer_0/self_attention/linear_0/weight"]
    read = np.vstack([values(source, f"model.encoder.layers.0.self_attn.{part}_proj.weight") for part in "qkv"])
    assert np.array_equal(read, stored)
    assert np.array_equal(
        values(source, "model.decoder.layers.0.encoder_attn.v_proj.weight"), variables["decoder/layer_0/attention/linear_1/weight"][8:]
    )
    anatomy = read_anatomy(source.tensors, source.config)
    assert not anatomy.unplaced
    assert {piece.place.component for piece in anatomy.pieces} == {"audio", "text"}


def test_fewer_key_heads_and_gates(tmp_path: Path) -> None:
    at = "decoder/layer_0"
    variables = {
        f"{at}/self_attention/linear_0/weight": numbers(16, 8),
        f"{at}/self_attention/linear_1/weight": numbers(8, 8),
        f"{at}/ffn/linear_0/weight": numbers(12, 8),
        f"{at}/ffn/linear_0_noact/weight": numbers(12, 8),
        "decoder/projection/weight": numbers(20, 8),
    }
    source = opened(tmp_path, written(variables))
    shapes = {name: info.shape for name, info in source.tensors.items()}
    assert shapes["model.layers.0.self_attn.q_proj.weight"] == (8, 8)
    assert shapes["model.layers.0.self_attn.v_proj.weight"] == (4, 8)
    assert np.array_equal(values(source, "model.layers.0.mlp.gate_proj.weight"), variables[f"{at}/ffn/linear_0/weight"])
    assert "lm_head.weight" in shapes


@pytest.mark.parametrize(("dtype", "scales"), [(np.int8, (24,)), (np.int16, ())])
def test_whole_numbers_are_divided_by_their_scales(tmp_path: Path, dtype: Any, scales: tuple[int, ...]) -> None:
    stored, scale = RANDOM.integers(-100, 100, (24, 8)).astype(dtype), np.abs(numbers(*scales)) + np.float32(0.1)
    at = "encoder/layer_0/self_attention/linear_0/weight"
    source = opened(tmp_path, written({at: stored, f"{at}_scale": np.asarray(scale, np.float32)}))
    read = np.vstack([values(source, f"encoder.layer.0.attention.self.{part}.weight") for part in ("query", "key", "value")])
    assert np.allclose(read, stored / np.reshape(scale, (-1, 1)), rtol=1e-6)
    assert source.quantization == f"CTranslate2 int{np.dtype(dtype).itemsize * 8}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (written(tiny())[:200], "ends inside|not within"),
        (written(tiny()) + b"\0", "goes on"),
        (written(tiny(), {"a": "b"}), "alias"),
        (written(tiny()).replace(b"conv1/weight", b"conv1\xffweight"), "UTF-8"),
        (written(tiny()).replace(struct.pack("<I", len(tiny())), struct.pack("<I", 2**31), 1), "claims"),
        (written({"a/b": numbers(3)}).replace(struct.pack("<BI", 1, 3), struct.pack("<BI", 1, 2**30)), "bytes for"),
        (written({"a/b": numbers(3), "a/b\0": numbers(3)}), "not text"),
        (written({"a/weight": np.ones((2, 2), np.int8), "a/weight_scale": np.zeros(2, np.float32)}), "zero"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(DamagedFile, match=problem):
        opened(tmp_path, content)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormat, match="version 3"):
        opened(tmp_path, written(tiny(), version=3))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(written(tiny()))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError), contextlib.closing(opened(tmp_path_factory.mktemp("x"), bytes(content))) as source:
        for name, info in source.tensors.items():
            assert source.read(name, 0, info.nbytes).nbytes == info.nbytes
