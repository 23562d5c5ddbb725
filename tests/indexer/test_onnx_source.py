"""ONNX models: weights as PyTorch keeps them, whatever the graph made of them; nothing hostile gets through."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.errors import DamagedFile, SourceError, UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources.onnx import protobuf
from modelkin_indexer.sources.stored import values

RANDOM = np.random.default_rng(0)
Array = Any


def numbers(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model(nodes: list[Any], constants: dict[str, Array], given: str = "x") -> Any:
    """A model of these nodes, one float input and as output what the last node gives."""
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (given, nodes[-1].output[0])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def saved(folder: Path, made: Any) -> Source:
    onnx.save_model(made, folder / "model.onnx")
    return open_source(folder / "model.onnx")


def oriented(source: Source, name: str) -> Array:
    """A tensor's values as rows of outputs."""
    views = layouts.stored_grid(source.tensors[name], squeeze=False).views()
    return np.concatenate([values.read_rows(source, view, 0, view.rows) for view in views])


def node(op: str, inputs: list[str], name: str = "", **attributes: Any) -> Any:
    scopes = attributes.pop("scopes", None)
    made = helper.make_node(op, inputs, [f"{name or op}_out"], name=name, **attributes)
    if scopes:
        made.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.onnx.name_scopes", value=repr(scopes)))
    return made


@pytest.mark.parametrize(
    ("nodes", "name", "turned"),
    [
        ([node("MatMul", ["x", "onnx::MatMul_7"], "/encoder/layer.0/query/MatMul")], "encoder.layer.0.query.weight", True),
        ([node("MatMul", ["x", "onnx::MatMul_7"], "MatMul_3"), node("Add", ["b.bias", "MatMul_3_out"])], "b.weight", True),
        ([node("MatMul", ["x", "val_7"], "node_1", scopes=["", "a", "a.proj", "linear_1"])], "a.proj.weight", True),
        ([node("MatMul", ["x", "val_7"], "node_1")], "matmul.0.weight", True),
        ([node("MatMul", ["val_7", "x"], "node_1")], "matmul.0.weight", False),
        ([node("MatMul", ["x", "a.weight"])], "a.weight", True),
        ([node("Transpose", ["a.weight"], perm=[1, 0]), node("MatMul", ["x", "Transpose_out"])], "a.weight", False),
        ([node("Identity", ["a.weight"]), node("Gemm", ["x", "Identity_out"], transB=1)], "a.weight", False),
        ([node("Gemm", ["x", "12", "b.bias"])], "b.weight", True),
        ([node("Gather", ["a.weight", "x"])], "a.weight", False),
        ([node("Gather", ["lm_head.weight", "x"], "/model/wte/Gather")], "model.wte.weight", False),
    ],
)
def test_names_and_orientation(tmp_path: Path, nodes: list[Any], name: str, turned: bool) -> None:
    weight = numbers(5, 4)
    constant = next(value for made in nodes for value in made.input if value not in ("x", "b.bias") and not value.endswith("_out"))
    source = saved(tmp_path, model(nodes, {constant: weight, "b.bias": numbers(4)}))
    assert name in source.tensors
    assert source.tensors[name].transposed is turned
    assert np.array_equal(oriented(source, name), weight.T if turned else weight)


def test_no_name_is_given_twice(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", f"onnx::MatMul_{number}"], f"/a/MatMul{'_1' * number}") for number in range(3)]
    source = saved(tmp_path, model(nodes, {f"onnx::MatMul_{number}": numbers(3, 4) for number in range(3)}))
    assert list(source.tensors) == ["a.weight", "a.weight.2", "a.weight.3"]


def test_what_is_no_weight_is_left_out_and_told(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "shape"]), node("Mul", ["Reshape_out", "half"]), node("MatMul", ["Mul_out", "a.weight"])]
    constants = {"shape": np.array([1, -1]), "half": np.float32(0.5), "a.weight": numbers(4, 4)}
    source = saved(tmp_path, model(nodes, constants))
    assert list(source.tensors) == ["a.weight"]
    assert "1 F32, 1 I64" in source.notes[0]


def test_constants_of_branches(tmp_path: Path) -> None:
    def branch(width: int) -> Any:
        constant = helper.make_node(
            "Constant", [], ["If_0_then_branch__Inline_0__a.weight"], value=numpy_helper.from_array(numbers(width, 8))
        )
        out = helper.make_tensor_value_info("MatMul_out", TensorProto.FLOAT, None)
        return helper.make_graph([constant, node("MatMul", ["x", constant.output[0]])], "b", [], [out])

    choice = helper.make_node("If", ["c"], ["out"], then_branch=branch(3), else_branch=branch(5))
    source = saved(tmp_path, model([choice], {"c": np.array(True)}))
    assert {name: info.shape for name, info in source.tensors.items()} == {"then_branch.a.weight": (8, 3), "else_branch.a.weight": (8, 5)}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_weights_are_as_pytorch_keeps_them(tmp_path: Path, kind: str, directions: int) -> None:
    """ONNX' own evaluator and PyTorch's module with what was read give the same."""
    hidden, width, gates = 3, 4, {"LSTM": 4, "GRU": 3}[kind]
    constants = {
        "onnx::W_1": numbers(directions, gates * hidden, width),
        "onnx::R_2": numbers(directions, gates * hidden, hidden),
        "onnx::B_3": numbers(directions, 2 * gates * hidden),
    }
    way = {"direction": "bidirectional"} if directions == 2 else {}
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    made = model([node(kind, ["x", *constants], f"/rnn/{kind}", hidden_size=hidden, **way, **more)], constants)
    source = saved(tmp_path, made)
    module = getattr(torch.nn, kind)(width, hidden, bidirectional=directions == 2)
    state = module.state_dict()
    assert {f"rnn.{name}" for name in state} == set(source.tensors)
    read = {name: source.read(f"rnn.{name}", 0, source.tensors[f"rnn.{name}"].nbytes).view(np.float32) for name in state}
    module.load_state_dict({name: torch.from_numpy(read[name]).reshape(value.shape) for name, value in state.items()})
    steps = numbers(6, 1, width)
    expected = np.asarray(ReferenceEvaluator(made).run(None, {"x": steps})[0])
    with torch.no_grad():
        found = module(torch.from_numpy(steps))[0].reshape(6, 1, directions, hidden).permute(0, 2, 1, 3)
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def whole(kind: Any, *shape: int) -> Array:
    return RANDOM.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16])
@pytest.mark.parametrize(
    ("scales", "attributes"), [((), {}), ((6,), {"axis": 0}), ((5,), {"axis": 1}), ((3, 5), {"axis": 0, "block_size": 2})]
)
def test_dequantised_by_the_graph(tmp_path: Path, kind: Any, scales: tuple[int, ...], attributes: dict[str, int]) -> None:
    constants = {
        "a.weight_quantized": whole(kind, 6, 5).astype(kind),
        "s": np.abs(numbers(*scales)),
        "z": whole(kind, *scales).astype(kind),
    }
    step = node("DequantizeLinear", list(constants), **attributes)
    alone = model([step], constants)
    expected = np.asarray(ReferenceEvaluator(alone).run(None, {"x": numbers(1)})[0])
    source = saved(tmp_path, model([step, node("MatMul", ["x", "DequantizeLinear_out"])], constants))
    assert list(source.tensors) == ["a.weight"]
    assert np.allclose(oriented(source, "a.weight"), expected.T, rtol=1e-6)
    assert source.quantization == f"ONNX {np.dtype(kind).itemsize * 8} bit"


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("kind", "low"), [(TensorProto.INT4, -8), (TensorProto.UINT4, 0)])
def test_four_bits(tmp_path: Path, kind: Any, low: int, raw: bool) -> None:
    packed = helper.make_tensor("a.weight", kind, (6, 5), RANDOM.integers(low, low + 16, 30))
    if raw:
        packed = numpy_helper.from_array(numpy_helper.to_array(packed), "a.weight")
    made = model(
        [node("DequantizeLinear", ["a.weight", "s"]), node("Gemm", ["x", "DequantizeLinear_out"], transB=1)], {"s": np.float32(0.5)}
    )
    made.graph.initializer.append(packed)
    assert np.array_equal(oriented(saved(tmp_path, made), "a.weight"), np.asarray(numpy_helper.to_array(packed)).astype(np.float32) * 0.5)


@pytest.mark.parametrize("scales", [1, 5])
@pytest.mark.parametrize("op", ["MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QLinearMatMul", "QGemm"])
def test_operators_with_whole_numbers(tmp_path: Path, op: str, scales: int) -> None:
    """onnxruntime's documentation: value = (stored - zero) * scale, one scale or one an output."""
    stored, zero, scale = whole(np.uint8, 4, 5).astype(np.uint8), whole(np.uint8, scales).astype(np.uint8), np.abs(numbers(scales))
    constants = {"onnx::MatMul_1_quantized": stored, "s": scale, "z": zero, "one": np.float32(1), "none": np.uint8(0)}
    inputs = {
        "MatMulInteger": ["x", "onnx::MatMul_1_quantized", "xz", "z"],
        "DynamicQuantizeMatMul": ["x", "onnx::MatMul_1_quantized", "s", "z"],
        "MatMulIntegerToFloat": ["x", "onnx::MatMul_1_quantized", "one", "s", "none", "z"],
        "QLinearMatMul": ["x", "one", "none", "onnx::MatMul_1_quantized", "s", "z", "one", "none"],
        "QGemm": ["x", "one", "none", "onnx::MatMul_1_quantized", "s", "z"],
    }[op]
    nodes = [node(op, inputs, f"/a/{op}")]
    if op == "MatMulInteger":
        nodes += [node("Mul", ["xs", "s"], "p"), node("Cast", [f"/a/{op}_out"], to=1), node("Mul", ["Cast_out", "p_out"], "m")]
    source = saved(tmp_path, model(nodes, constants))
    assert list(source.tensors) == ["a.weight"]
    assert np.allclose(oriented(source, "a.weight"), ((stored.astype(np.float32) - zero) * scale).T)


@pytest.mark.parametrize("zeros", [True, False])
def test_blocks_of_four_bits(tmp_path: Path, zeros: bool) -> None:
    outputs, blocks, size = 3, 3, 32
    stored, scale = RANDOM.integers(0, 16, (outputs, blocks, size)), np.abs(numbers(outputs, blocks))
    zero = RANDOM.integers(0, 16, (outputs, blocks + 1)) if zeros else np.full((outputs, blocks + 1), 8)
    pack = lambda halves: (halves[..., ::2] | halves[..., 1::2] << 4).astype(np.uint8)  # noqa: E731
    constants = {"a.MatMul.weight_Q4": pack(stored), "s": scale.ravel(), "z": pack(zero).ravel()}
    inputs = ["x", *constants][: 4 if zeros else 3]
    step = node("MatMulNBits", inputs, N=outputs, K=blocks * size, bits=4, block_size=size)
    source = saved(tmp_path, model([step], {name: constants[name] for name in inputs[1:]}))
    expected = (stored - zero[:, :blocks, None]) * scale[..., None]
    assert np.allclose(oriented(source, "a.weight"), expected.reshape(outputs, -1))


def test_whole_numbers_without_scales_are_no_weights(tmp_path: Path) -> None:
    constants = {"a.weight_quantized": whole(np.int8, 4, 4).astype(np.int8), "b.weight": numbers(4, 4)}
    source = saved(tmp_path, model([node("MatMul", ["x", "b.weight"]), node("MatMulInteger", ["x", "a.weight_quantized"])], constants))
    assert "b.weight" in source.tensors
    assert source.quantization == ""


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_typed_fields_are_read_as_raw_data_is(tmp_path: Path, kind: Any) -> None:
    weight = numbers(3, 4).astype(kind)
    made = model([node("Gemm", ["x", "a.weight"], transB=1)], {})
    made.graph.initializer.append(helper.make_tensor("a.weight", helper.np_dtype_to_tensor_dtype(weight.dtype), (3, 4), weight.ravel()))
    assert np.array_equal(oriented(saved(tmp_path, made), "a.weight"), weight.astype(np.float32))


def external(folder: Path, **said: str) -> Source:
    """A model whose only weight is said to be in another file."""
    made = model([node("Gemm", ["x", "a.weight"], transB=1)], {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4)})
    folder.mkdir(exist_ok=True)
    onnx.save_model(made, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    changed = onnx.load(folder / "model.onnx", load_external_data=False)
    for entry in changed.graph.initializer[0].external_data:
        entry.value = said.pop(entry.key, entry.value)
    (folder / "model.onnx").write_bytes(changed.SerializeToString())
    return open_source(folder / "model.onnx")


def test_external_data(tmp_path: Path) -> None:
    source = external(tmp_path)
    assert np.array_equal(oriented(source, "a.weight").ravel(), np.arange(12))
    assert [file.name for file in source.files] == ["model.onnx", "weights.bin"]


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..", "", "a\\b", "weights.bin\0x"])
def test_external_data_cannot_leave_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    with pytest.raises(DamagedFile, match="Do not trust"):
        external(tmp_path / "model", location=location)


def test_external_data_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(48))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "linked").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsupportedFormat, match="link"):
        external(tmp_path / "model", location="linked")


@pytest.mark.parametrize("said", [{"offset": "40"}, {"offset": "-4"}, {"length": "44"}, {"length": "9" * 30}, {"offset": "x"}])
def test_external_data_that_the_file_does_not_have(tmp_path: Path, said: dict[str, str]) -> None:
    with pytest.raises(DamagedFile, match=r"a\.weight"):
        external(tmp_path, **said)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("sound")
    constants = {"a.weight_quantized": whole(np.int8, 6, 5).astype(np.int8), "s": numbers(), "b.weight": numbers(8, 8)}
    nodes = [node("DequantizeLinear", ["a.weight_quantized", "s"]), node("MatMul", ["x", "DequantizeLinear_out"])]
    saved(folder, model([*nodes, node("Gemm", ["x", "b.weight"])], constants)).close()
    return (folder / "model.onnx").read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read_whole(sound: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = bytearray(sound[: data.draw(st.integers(0, len(sound)))] if data.draw(st.booleans()) else sound)
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(SourceError), contextlib.closing(open_source(path)) as source:
        for name, info in source.tensors.items():
            assert source.read(name, 0, info.nbytes).nbytes == info.nbytes


def field(number: int, content: bytes) -> bytes:
    return protobuf._encoded(number, content)


def test_messages_nested_too_deeply(tmp_path: Path) -> None:
    graph = b""
    for _ in range(40):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "model.onnx").write_bytes(field(7, graph))
    with pytest.raises(DamagedFile, match="deep"):
        open_source(tmp_path / "model.onnx")


def test_outlines_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: bytes) -> None:
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 20)
    (tmp_path / "model.onnx").write_bytes(sound)
    with pytest.raises(UnsupportedFormat, match="fields"):
        open_source(tmp_path / "model.onnx")


def test_weights_stay_in_the_file(tmp_path: Path) -> None:
    """Opening reads what is beside the weights, and a row costs a row."""
    source = saved(tmp_path, model([node("Gemm", ["x", "a.weight"], transB=1)], {"a.weight": numbers(1000, 1000)}))
    opened = source.bytes_read
    assert opened < 1000
    source.read("a.weight", 4000, 8000)
    assert source.bytes_read == opened + 4000
