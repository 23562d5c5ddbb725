"""GGUF files: every type, the names and orders of the model's own publication, splits, and headers that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from gguf import GGML_QUANT_SIZES, MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES, GGMLQuantizationType

import gguf_files
import models
from gguf_files import F16, write
from modelkin_indexer.anatomy.names import Naming
from modelkin_indexer.anatomy.reading import read_anatomy
from modelkin_indexer.anatomy.splits import split_name
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.sources.gguf import header as gguf_header
from modelkin_indexer.sources.gguf import quick_blocks
from modelkin_indexer.sources.gguf.names import Restoring

OPEN_FILES = Path("/proc/self/fd")
PLAIN = {"F64", "I8", "I16", "I32", "I64"}
UNDECODED = {"Q8_1", "Q8_K", "Q1_0"}  # the library holds no decoder for these; llama.cpp stores no weights in the first two
TYPES = [kind for kind in GGMLQuantizationType if kind.name not in UNDECODED]
# Architectures whose own names the tables do not know yet, or that are no transformers.
STRANGE = {"clip", "wavtokenizer-dec", "rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7", "gemma3n", "gemma4"}
UNKNOWN = ("rope_", "attn_rot_embd", "_sub_norm", "dense_", "indexer.", "chexps", "vis_", "latent", "ssm_conv1d_", "ssm_f_", "ssm_g_")
UNKNOWN += ("attn_k_b", "attn_v_b", "ffn_norm_exps", "shortconv", "conv")


def values_of(source: Any, tensor: str) -> Any:
    info = source.tensors[tensor]
    dtype = {"F32": np.float32, "F16": np.float16, "F64": np.float64}.get(info.dtype, np.uint8)
    return source.read(tensor, 0, info.nbytes).view(dtype).reshape(info.shape)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_type(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    """Any bytes of any type come out as the library decodes them, also in parts."""
    block, size = GGML_QUANT_SIZES[kind]
    stored = np.random.default_rng(1).integers(0, 60, (6, 4, size), np.uint8).reshape(6, -1)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "qwen2")
    writer.add_tensor("blk.0.ffn_up.weight", stored, raw_dtype=kind)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    source = open_source(tmp_path / "a.gguf")
    info = source.tensors["model.layers.0.mlp.up_proj.weight"]
    assert info.shape == (6, 4 * block)
    found = source.read(info.name, 0, info.nbytes)
    if kind.name in {"F16", "BF16", "F32"} | PLAIN:
        assert (info.dtype, source.quantization) == (kind.name, "")
        assert np.array_equal(found, stored.reshape(-1))
    else:
        assert (info.dtype, source.quantization) == ("F32", f"GGUF {kind.name}")
        with np.errstate(all="ignore"):
            assert np.array_equal(found.view(np.float32), gguf.dequantize(stored, kind).reshape(-1), equal_nan=True)
    middle = source.read(info.name, 7, info.nbytes - 5)
    assert np.array_equal(middle, found[7 : info.nbytes - 5])


@pytest.mark.parametrize("name", sorted(UNDECODED))
def test_types_that_no_library_decodes(name: str, tmp_path: Path) -> None:
    kind = GGMLQuantizationType[name]
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "qwen2")
    writer.add_tensor("output.weight", np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), raw_dtype=kind)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    with pytest.raises(UnsupportedFormat, match=rf"'output.weight': has the type {name}"):
        open_source(tmp_path / "a.gguf")


def test_a_float_twin_is_the_same_model(tmp_path: Path) -> None:
    """Names, q and k order and values come back: the same places and digests as of the safetensors form."""
    tensors = models.llama(3, 2)
    stored = {name: values.astype(np.float16) if values.ndim > 1 else values for name, values in tensors.items()}
    (tmp_path / "a").mkdir()
    safetensors.numpy.save_file(stored, tmp_path / "a" / "model.safetensors")
    (tmp_path / "a" / "config.json").write_text(json.dumps(models.CONFIG))
    twin = fingerprint_source(open_source(tmp_path / "a"))
    found = fingerprint_source(open_source(write(tmp_path / "b" / "x-F16.gguf", gguf_files.converted(tensors), F16)))
    assert found.matrices.places == twin.matrices.places
    assert np.array_equal(found.matrices.digest, twin.matrices.digest)
    assert found.vectors.places == twin.vectors.places
    assert np.array_equal(found.vectors.digest, twin.vectors.digest)
    assert (found.about.coverage, found.about.quantization) == (1, "")
    assert found.about.config is not None
    assert found.about.config["model_type"] == "llama"


def test_quantised_rows_are_put_back_in_order(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((64, 96)).astype(np.float32)
    names = {f"blk.0.attn_{role}.weight": gguf_files.permuted(weights, heads) for role, heads in (("q", 4), ("k", 2))}
    path = write(
        tmp_path / "a.gguf",
        names,
        GGMLQuantizationType.Q8_0,
        settings={"attention.head_count": [4, 8], "attention.head_count_kv": 2, "block_count": 2},
    )
    source = open_source(path)
    for name in ("q", "k"):
        found = values_of(source, f"model.layers.0.self_attn.{name}_proj.weight")
        assert np.corrcoef(found.ravel(), weights.ravel())[0, 1] > 0.999
    assert source.config["num_attention_heads"] == 8


def test_experts_are_single_tensors(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((3, 64, 96)).astype(np.float32)
    source = open_source(write(tmp_path / "a.gguf", {"blk.1.ffn_down_exps.weight": weights}, GGMLQuantizationType.Q5_0, "qwen3moe"))
    for expert in range(3):
        found = values_of(source, f"model.layers.1.mlp.experts.{expert}.down_proj.weight")
        assert np.corrcoef(found.ravel(), weights[expert].ravel())[0, 1] > 0.99


def test_gains_plus_one_and_decays(tmp_path: Path) -> None:
    gains = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    gains = (gains.view(np.uint32) & 0xFFFF0000).view(np.float32)  # as bfloat16 would store them
    source = open_source(write(tmp_path / "a.gguf", {"blk.0.attn_norm.weight": gains + 1}, arch="gemma3"))
    assert np.array_equal(values_of(source, "model.layers.0.input_layernorm.weight"), gains)
    odd = np.random.default_rng(2).standard_normal(64).astype(np.float32)
    source = open_source(write(tmp_path / "b.gguf", {"output_norm.weight": odd + 1}, arch="gemma3"))
    assert np.allclose(values_of(source, "model.norm.weight"), odd, atol=1e-6)
    decays = np.random.default_rng(1).standard_normal((64, 16)).astype(np.float32)
    tensors = {"blk.0.ssm_a": -np.exp(decays), "blk.0.ssm_d": gains, "blk.0.attn_norm.weight": gains}
    source = open_source(write(tmp_path / "c.gguf", tensors, arch="mamba"))
    assert np.allclose(values_of(source, "model.layers.0.mixer.A_log"), decays, atol=1e-5)
    assert np.array_equal(values_of(source, "model.layers.0.input_layernorm.weight"), gains)


def test_splits_are_one_model(tmp_path: Path) -> None:
    for number, name in enumerate(("output.weight", "token_embd.weight"), start=1):
        write(tmp_path / f"x-0000{number}-of-00002.gguf", {name: np.ones((2, 32), np.float32)}, split__count=2)
    source = open_source(tmp_path)
    assert list(source.tensors) == ["lm_head.weight", "model.embed_tokens.weight"]
    assert (len(source.files), source.notes) == (2, ())
    alone = open_source(tmp_path / "x-00002-of-00002.gguf")
    assert "one of 2 splits" in alone.notes[0]


@pytest.mark.parametrize("name", ["mmproj-x-f16.gguf", "x-mmproj-BF16.gguf", "x.mmproj.gguf"])
def test_a_projector_beside_a_model_is_told_and_can_be_read(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    write(tmp_path / "x-Q8_0.gguf", {"output.weight": rng.standard_normal((8, 32)).astype(np.float32)}, GGMLQuantizationType.Q8_0)
    write(tmp_path / name, {"v.blk.0.attn_q.weight": rng.standard_normal((32, 32)).astype(np.float32)}, GGMLQuantizationType.F16)
    source = open_source(tmp_path)
    assert [file.name for file in source.files] == ["x-Q8_0.gguf"]
    assert any(f"is left out: {name}. To read it instead" in note for note in source.notes)
    assert [file.name for file in open_source(tmp_path, name).files] == [name]


def test_few_rows_cost_few_bytes_and_are_those_of_the_whole(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((512, 2048)).astype(np.float32)
    write(tmp_path / "x.gguf", {"blk.0.ffn_up.weight": weights}, GGMLQuantizationType.Q8_0)
    source = open_source(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    before = source.bytes_read
    rows = source.read(name, 100 * 2048 * 4, 104 * 2048 * 4).copy()
    assert source.bytes_read - before == 4 * 2048 // 32 * 34
    whole = source.read(name, 0, weights.nbytes).view(np.float32).reshape(weights.shape)
    np.testing.assert_array_equal(rows.view(np.float32).reshape(4, 2048), whole[100:104])
    odd = source.read(name, 100 * 2048 * 4 + 12, 100 * 2048 * 4 + 2400).view(np.float32)
    np.testing.assert_array_equal(odd, whole[100].ravel()[3:600])


def test_the_least_quantised_is_read(tmp_path: Path) -> None:
    tensors = {"output.weight": np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32)}
    for kind in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0):
        write(tmp_path / f"x-{kind.name}.gguf", tensors, kind)
    (tmp_path / "mmproj-x-f16.gguf").write_bytes(b"GGUF")
    source = open_source(tmp_path)
    assert source.quantization == "GGUF Q8_0"
    assert "x-Q4_0.gguf" in source.notes[0]
    assert open_source(tmp_path, "x-Q4_0.gguf").quantization == "GGUF Q4_0"
    models.write(tmp_path, {"lm_head.weight": tensors["output.weight"]})
    assert open_source(tmp_path).files[0].name == "model.safetensors"


@pytest.mark.parametrize("arch", sorted(MODEL_TENSORS, key=lambda arch: arch.value), ids=lambda arch: MODEL_ARCH_NAMES[arch])
def test_every_architecture(arch: Any) -> None:
    """Every tensor that the library knows gets a name of its own, and in nearly all architectures one that the tables know."""
    names = sorted({TENSOR_NAMES[tensor].format(bid=0) + ".weight" for tensor in MODEL_TENSORS[arch]})
    restoring = Restoring(dict.fromkeys(names, (4, 4)), {"general.architecture": MODEL_ARCH_NAMES[arch]})
    published = {name: restoring.restored(name).name.replace("#", "0") for name in names}
    assert len(set(published.values())) == len(names)
    splits = {name: split_name(new) for name, new in published.items()}
    naming = Naming(splits.values(), dict.fromkeys(published.values(), (4, 4)), "")
    unknown = {name for name, split in splits.items() if not naming.meaning(split).known and not any(part in name for part in UNKNOWN)}
    assert not unknown or MODEL_ARCH_NAMES[arch] in STRANGE


def test_fused_gate_and_up(tmp_path: Path) -> None:
    tensors = {"blk.0.ffn_up.weight": np.ones((8, 4), np.float32), "blk.0.ffn_down.weight": np.ones((4, 4), np.float32)}
    source = open_source(write(tmp_path / "a.gguf", tensors, arch="phi3"))
    roles = {piece.place.role for piece in read_anatomy(source.tensors, source.config).pieces}
    assert roles == {"gate", "up", "down"}


def header(tensors: int = 1, keys: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys)


def text(word: bytes) -> bytes:
    return struct.pack("<Q", len(word)) + word


def tensor(name: bytes = b"a", shape: tuple[int, ...] = (32,), kind: int = 0, start: int = 0, axes: int | None = None) -> bytes:
    axes = len(shape) if axes is None else axes
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", axes, *shape, kind, start)


U32, TEXTS = 4, struct.pack("<I", 9) + struct.pack("<I", 8)
DAMAGED = {
    "empty": b"",
    "cut in the counts": header()[:10],
    "wrong magic": header(magic=b"GGML"),
    "more tensors than bytes": header(100_000),
    "more keys than bytes": header(0, 60_000),
    "key longer than the file": header(0, 1) + struct.pack("<Q", 4000) + b"x",
    "huge key": header(0, 1) + struct.pack("<Q", 2**60) + b"x" * 99,
    "empty key": header(0, 1) + text(b"") + struct.pack("<II", U32, 1),
    "key twice": header(0, 2) + (text(b"k") + struct.pack("<II", U32, 1)) * 2,
    "key not UTF-8": header(0, 1) + text(b"\xff") + struct.pack("<II", U32, 1),
    "unknown value type": header(0, 1) + text(b"k") + struct.pack("<I", 99) + bytes(64),
    "text longer than the file": header(0, 1) + text(b"k") + struct.pack("<IQ", 8, 2**62) + bytes(64),
    "array longer than the file": header(0, 1) + text(b"k") + struct.pack("<IIQ", 9, U32, 2**61) + bytes(64),
    "array of arrays": header(0, 1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64),
    "texts longer than the file": header(0, 1) + text(b"k") + TEXTS + struct.pack("<QQ", 5, 2**63) + bytes(64),
    "odd alignment": header(0, 1) + text(b"general.alignment") + struct.pack("<II", U32, 24),
    "no alignment": header(0, 1) + text(b"general.alignment") + struct.pack("<II", U32, 0),
    "no tensors": header(0),
    "no axes": header() + tensor(shape=()) + bytes(256),
    "five axes": header() + tensor(shape=(2,) * 5) + bytes(256),
    "shape overflows": header() + tensor(shape=(2**40, 2**40)) + bytes(256),
    "past the end": header() + tensor(shape=(10**6,)) + bytes(256),
    "offset past the end": header() + tensor(start=2**62) + bytes(256),
    "offset overflows": header() + tensor(start=2**64 - 32) + bytes(256),
    "offset not aligned": header() + tensor(start=4) + bytes(256),
    "rows no multiple of a block": header() + tensor(shape=(33, 2), kind=2) + bytes(256),
    "twice": header(2) + tensor() + tensor(start=128) + bytes(512),
    "overlap": header(2) + tensor() + tensor(b"b", start=32) + bytes(512),
}
UNSUPPORTED = {
    "version 1": header(version=1),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "millions of tensors": header(2**40),
    "millions of keys": header(0, 2**40),
    "texts by the billion": header(0, 1) + text(b"k") + TEXTS + struct.pack("<Q", 2**40) + bytes(64),
    "unknown type": header() + tensor(kind=77) + bytes(256),
    "removed type": header() + tensor(kind=4) + bytes(256),
}


@pytest.mark.parametrize("case", [*DAMAGED, *UNSUPPORTED])
def test_headers_that_lie(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(DAMAGED.get(case, b"") or UNSUPPORTED.get(case, b""))
    before = len(list(OPEN_FILES.iterdir()))
    with pytest.raises(DamagedFile if case in DAMAGED else UnsupportedFormat, match=r"a\.gguf"):
        open_source(path)
    assert len(list(OPEN_FILES.iterdir())) == before


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.gguf", {"output.weight": np.ones((4, 32), np.float32)}).read_bytes()
    for length in range(0, len(whole) - 1, 7):
        (tmp_path / "b.gguf").write_bytes(whole[:length])
        with pytest.raises(SourceError):
            open_source(tmp_path / "b.gguf")


def test_a_header_longer_than_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.gguf", {"output.weight": np.ones((4, 32), np.float32)}, tokens=[f"token{n}" for n in range(1000)])
    monkeypatch.setattr(gguf_header, "WINDOW", 64)
    assert open_source(path).tensors["lm_head.weight"].shape == (4, 32)


def test_a_tensor_without_numbers_is_left_out(tmp_path: Path) -> None:
    weights = models.llama(1, layers=2)
    path = gguf_files.write(tmp_path / "x.gguf", {**gguf_files.converted(weights), "blk.0.empty.weight": np.zeros((0, 8), np.float32)})
    source = open_source(path)
    assert len(source.tensors) == len(weights)
    assert "Tensors without a number are left out: blk.0.empty.weight." in source.notes


@pytest.mark.parametrize("kind", sorted(quick_blocks.DECODERS))
def test_blocks_are_decoded_as_the_library_does_bit_by_bit(kind: str) -> None:
    form = gguf.GGMLQuantizationType[kind]
    numbers, size = gguf.GGML_QUANT_SIZES[form]
    stored = np.random.default_rng(0).integers(0, 256, 400 * size, np.uint8)  # any bytes are numbers, infinite ones and NaN among them
    found = np.empty(400 * numbers, np.float32)
    with np.errstate(all="ignore"):
        quick_blocks.DECODERS[kind](stored, found)
        expected = gguf.dequantize(stored.reshape(1, -1), form).reshape(-1)
    nothing = np.isnan(expected)
    assert 0 < nothing.mean() < 0.2
    assert (np.isnan(found) == nothing).all()
    assert (found.view(np.uint32)[~nothing] == expected.view(np.uint32)[~nothing]).all()
