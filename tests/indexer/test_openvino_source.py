"""OpenVINO's graphs, as openvino.save_model and NNCF write them (benchmarks/formats/containers_reference.py holds files of theirs)."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hostile.written import openvino_files
from modelkin_indexer.errors import SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from reading import read

RNG = np.random.default_rng(4)


class Written:
    """A graph that grows layer by layer."""

    def __init__(self) -> None:
        self._layers, self._edges, self._data, self._count = "", "", b"", 0
        self.x = self.layer("Parameter", "x")

    def layer(self, op: str, name: str, *inputs: int, **data: str) -> int:
        text = " ".join(f'{key}="{value}"' for key, value in data.items())
        self._layers += f'<layer id="{self._count}" name="{name}" type="{op}"><data {text}/></layer>'
        for port, number in enumerate(inputs):
            self._edges += f'<edge from-layer="{number}" from-port="0" to-layer="{self._count}" to-port="{port}"/>'
        self._count += 1
        return self._count - 1

    def constant(self, name: str, kind: str, shape: tuple[int, ...], raw: bytes) -> int:
        at = len(self._data)
        self._data += raw
        return self.layer("Const", name, element_type=kind, shape=",".join(map(str, shape)), offset=str(at), size=str(len(raw)))

    def save(self, path: Path) -> Path:
        path.with_suffix(".bin").write_bytes(self._data)
        path.write_text(f"<net name='m'><layers>{self._layers}</layers><edges>{self._edges}</edges></net>")
        return path


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


def packed(codes: Any) -> bytes:
    flat = np.asarray(codes).reshape(-1).astype(np.uint8) & 15
    flat = np.pad(flat, (0, flat.size % 2))
    return bytes(flat[::2] | flat[1::2] << 4)


@pytest.mark.parametrize("transposed", [True, False])
def test_a_matrix_is_oriented_by_what_multiplies_with_it(transposed: bool, tmp_path: Path) -> None:
    weight, graph = floats(12, 8), Written()
    stored = weight if transposed else np.ascontiguousarray(weight.T)
    number = graph.constant("self.fc.weight", "f32", stored.shape, stored.tobytes())
    graph.layer("MatMul", "m", graph.x, number, transpose_b=str(transposed).lower())
    assert np.array_equal(read(graph.save(tmp_path / "m.xml"))["fc.weight"], weight)


def test_names_without_their_tails_and_of_modules(tmp_path: Path) -> None:
    weight, bias, gain, graph = floats(12, 8).astype(np.float16), floats(1, 1, 12), floats(1, 1, 8), Written()
    number = graph.layer("Convert", "self.l.fc.weight", graph.constant("self.l.fc.weight_compressed", "f16", (12, 8), weight.tobytes()))
    graph.layer("MatMul", "m", graph.x, number, transpose_b="true")
    graph.layer("Add", "__module.l.fc/aten::linear/Add", graph.x, graph.constant("Constant_31", "f32", (1, 1, 12), bias.tobytes()))
    graph.layer("Multiply", "__module.l.norm/aten::mul/Multiply", graph.x, graph.constant("Constant_7", "f32", (1, 1, 8), gain.tobytes()))
    found = read(graph.save(tmp_path / "m.xml"))
    assert {name: array.shape for name, array in found.items()} == {"l.fc.weight": (12, 8), "l.fc.bias": (12,), "l.norm.weight": (8,)}
    assert np.array_equal(found["l.norm.weight"], gain.reshape(-1))


def scaled(graph: Written, kind: str, shape: tuple[int, ...], raw: bytes, scale: Any, zero: tuple[str, bytes] | None = None) -> int:
    """What NNCF writes around compressed weights."""
    number = graph.layer("Convert", "c", graph.constant("self.fc.weight", kind, shape, raw))
    if zero is not None:
        number = graph.layer("Subtract", "s", number, graph.layer("Convert", "z", graph.constant("z0", zero[0], scale.shape, zero[1])))
    return graph.layer("Multiply", "self.fc.weight/fq_weights_1", number, graph.constant("s0", "f32", scale.shape, scale.tobytes()))


@pytest.mark.parametrize(("kind", "low"), [("i4", -8), ("u4", 0)])
def test_int4_in_groups(kind: str, low: int, tmp_path: Path) -> None:
    codes, scale, graph = RNG.integers(low, low + 16, (12, 3, 32)), (RNG.random((12, 3, 1)) + 0.5).astype(np.float32), Written()
    zero = RNG.integers(0, 16, (12, 3, 1))
    number = scaled(graph, kind, codes.shape, packed(codes), scale, ("u4", packed(zero)) if kind == "u4" else None)
    shape = graph.constant("shape", "i64", (2,), np.array([12, 96]).tobytes())
    graph.layer("MatMul", "m", graph.x, graph.layer("Reshape", "r", number, shape), transpose_b="true")
    path = graph.save(tmp_path / "m.xml")
    expected = ((codes - (zero if kind == "u4" else 0)) * scale).reshape(12, 96)
    assert np.allclose(read(path)["fc.weight"], expected)
    with closing(open_source(path)) as source:
        assert source.quantization == f"OpenVINO {kind}"
        assert list(source.tensors) == ["fc.weight"]


def test_int8_and_ragged_rows_of_int4(tmp_path: Path) -> None:
    codes, scale, graph = RNG.integers(0, 256, (12, 9)), (RNG.random((12, 1)) + 0.5).astype(np.float32), Written()
    zero = RNG.integers(0, 256, (12, 1)).astype(np.uint8)
    number = scaled(graph, "u8", codes.shape, codes.astype(np.uint8).tobytes(), scale, ("u8", zero.tobytes()))
    graph.layer("MatMul", "m", graph.x, number, transpose_b="true")
    assert np.allclose(read(graph.save(tmp_path / "a.xml"))["fc.weight"], (codes - zero.astype(int)) * scale)
    graph, small = Written(), RNG.integers(-8, 8, (13, 9))
    number = scaled(graph, "i4", small.shape, packed(small), scale := np.resize(scale, (13, 1)))
    graph.layer("MatMul", "m", graph.x, number, transpose_b="true")
    assert np.allclose(read(graph.save(tmp_path / "b.xml"))["fc.weight"], small * scale)


def test_two_scales_are_multiplied(tmp_path: Path) -> None:
    codes, graph = RNG.integers(0, 16, (12, 4, 16)), Written()
    fine = np.full((12, 4, 1), 0x40, np.uint8)  # 2.0 as f8e4m3
    whole = np.array([[[0.25]]], np.float32)
    number = graph.layer("Convert", "c", graph.constant("self.fc.weight", "f4e2m1", codes.shape, packed(codes)))
    steps = graph.layer("Convert", "f", graph.constant("fine", "f8e4m3", fine.shape, fine.tobytes()))
    steps = graph.layer("Multiply", "both", steps, graph.constant("whole", "f32", (1, 1, 1), whole.tobytes()))
    number = graph.layer("Multiply", "w", number, steps)
    shape = graph.constant("shape", "i64", (2,), np.array([12, 64]).tobytes())
    graph.layer("MatMul", "m", graph.x, graph.layer("Reshape", "r", number, shape), transpose_b="true")
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    expected = np.where(codes < 8, 1, -1) * table[codes % 8] * 0.5
    assert np.allclose(read(graph.save(tmp_path / "m.xml"))["fc.weight"], expected.reshape(12, 64))


def test_gates_stand_in_pytorchs_order(tmp_path: Path) -> None:
    weight, graph = floats(1, 4 * 5, 8), Written()
    number = graph.constant("self.rnn.w", "f32", weight.shape, weight.tobytes())
    graph.layer("LSTMSequence", "l", *[graph.x] * 4, number)
    found = read(graph.save(tmp_path / "m.xml"))["rnn.w"]
    forget, into, cell, out = weight[0].reshape(4, 5, 8)
    assert np.array_equal(found, np.concatenate([into, forget, cell, out]))


def test_what_needs_another_table_counts_as_unread(tmp_path: Path) -> None:
    graph, weight = Written(), floats(12, 8)
    graph.layer("MatMul", "m", graph.x, graph.constant("self.a.weight", "f32", (12, 8), weight.tobytes()), transpose_b="true")
    index = graph.layer("Convert", "i", graph.constant("self.b.weight", "u4", (12, 16), bytes(96)))
    graph.layer("Gather", "g", graph.constant("book", "f32", (16,), floats(16).tobytes()), index)
    with closing(open_source(graph.save(tmp_path / "m.xml"))) as source:
        assert source.unread == (("OpenVINO, u4 of Gather".replace("u4", "U4"), 96),)


def test_the_file_of_bytes_leads_to_its_graph_and_is_no_checkpoint(tmp_path: Path) -> None:
    for name, data in openvino_files({"fc.weight": floats(12, 8)}).items():
        (tmp_path / name).write_bytes(data)
    for path, file in ((tmp_path, None), (tmp_path, "openvino_model.bin"), (tmp_path / "openvino_model.bin", None)):
        with closing(open_source(path, file)) as source:
            assert list(source.tensors) == ["fc.weight"]
            assert len(source.files) == 2


def test_entities_are_refused(tmp_path: Path) -> None:
    xml, data = openvino_files({"fc.weight": floats(12, 8)}).values()
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "m.xml").write_bytes(xml.replace(b"?>", b'?><!DOCTYPE net [<!ENTITY a "b">]>'))
    with pytest.raises(UnsupportedFormat, match="declares a document type"):
        open_source(tmp_path / "m.xml")
    (tmp_path / "m.xml").write_bytes(xml)
    (tmp_path / "m.bin").unlink()
    with pytest.raises(SourceError, match=r"m\.bin"):
        open_source(tmp_path / "m.xml")


def test_other_xml_in_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "classes.xml").write_text("<labels/>")
    np.savez(tmp_path / "weights.npz", a=floats(4, 4))
    with closing(open_source(tmp_path)) as source:
        assert list(source.tensors) == ["a"]
