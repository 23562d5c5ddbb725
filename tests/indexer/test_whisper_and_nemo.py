"""whisper.cpp's ggml files and NeMo's archives, written byte by byte."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from benchmarks.hostile.written import nemo_bytes, whisper_bytes
from modelkin_indexer.errors import SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(9)
NAME = "encoder.blocks.0.attn.query.weight"


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def checkpoint(tensors: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, stream)
    return stream.getvalue()


def test_whispers_tensors_have_their_own_names_and_shapes(tmp_path: Path) -> None:
    query, bias = floats(32, 64), floats(32, 1)
    (tmp_path / "ggml-tiny.bin").write_bytes(whisper_bytes({NAME: query, "encoder.conv1.bias": bias}))
    found = read(tmp_path)
    assert np.array_equal(found[NAME], query)
    assert np.array_equal(found["encoder.conv1.bias"], bias.reshape(-1))
    with closing(open_source(tmp_path)) as source:
        assert source.config["d_model"] == 32
        assert source.bytes_read < 1000


def test_whispers_quantised_blocks(tmp_path: Path) -> None:
    query, kind = floats(32, 64), gguf.GGMLQuantizationType.Q5_0
    stored = gguf.quantize(query, kind)
    raw = whisper_bytes({NAME: stored.view(np.float16)}, {NAME: {"kind": int(kind), "shape": (64, 32)}}, ftype=8)
    (tmp_path / "ggml-tiny-q5_0.bin").write_bytes(raw)
    with closing(open_source(tmp_path)) as source:
        assert source.quantization == "whisper.cpp Q5_0"
    assert np.array_equal(read(tmp_path)[NAME], gguf.dequantize(stored, kind))


def test_a_ggml_file_of_another_model_is_refused_by_kind(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(whisper_bytes({NAME: floats(32, 64)}, state=33))
    with pytest.raises(UnsupportedFormat, match="none of a whisper model"):
        open_source(tmp_path / "m.bin")


def test_nemos_checkpoint_is_read_where_it_lies(tmp_path: Path) -> None:
    weights = {"encoder.layers.0.self_attn.linear_q.weight": floats(300, 64), "decoder.bias": floats(9)}
    (tmp_path / "m.nemo").write_bytes(nemo_bytes(checkpoint(weights)))
    found = read(tmp_path / "m.nemo")
    assert all(np.array_equal(found[name], array) for name, array in weights.items())
    with closing(open_source(tmp_path / "m.nemo")) as source:
        assert [file.name for file in source.files] == ["m.nemo"]
        assert source.bytes_read < 5000


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (nemo_bytes(b"PK", "./other.ckpt"), "without model_weights.ckpt"),
        (nemo_bytes(checkpoint({"a": np.ones(3)}), mode="w:gz"), "compressed archive. Unpack it"),
        (nemo_bytes(b"\x80\x02."), "older form"),
    ],
)
def test_archives_that_are_refused_with_the_remedy(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(raw)
    with pytest.raises(SourceError, match=said):
        open_source(tmp_path / "m.nemo")
