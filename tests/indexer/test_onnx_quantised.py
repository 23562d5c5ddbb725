"""Quantised ONNX models: what onnxruntime's own operators and chains of plain ones make of numbers of a few bits, by their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from modelkin_indexer.anatomy import layouts
from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

RANDOM = np.random.default_rng(0)
Array = Any
OUTPUTS, INPUTS, SIZE = 5, 70, 32  # the last of three blocks is filled up
BLOCKS = -(-INPUTS // SIZE)


def numbers(*shape: int) -> Array:
    return np.abs(RANDOM.standard_normal(shape)).astype(np.float32)


def whole(low: int, high: int, *shape: int) -> Array:
    return RANDOM.integers(low, high, shape)


def node(op: str, inputs: list[str], output: str = "", **attributes: Any) -> Any:
    return helper.make_node(op, inputs, [output or f"{op}_out"], name=f"/a/{op}", **attributes)


def saved(folder: Path, nodes: list[Any], constants: dict[str, Array], more: tuple[Any, ...] = ()) -> Source:
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", nodes[-1].output[0])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [*tensors, *more])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), folder / "model.onnx")
    return open_source(folder / "model.onnx")


def read(source: Source, name: str = "a.weight") -> Array:
    """Values as rows of outputs."""
    views = layouts.stored_grid(source.tensors[name], squeeze=False).views()
    return np.concatenate([values.read_rows(source, view, 0, view.rows) for view in views])


def packed(codes: Array, bits: int, high_first: bool = False) -> Array:
    """Several in a byte along the last axis, each row in bytes of its own."""
    each = 8 // bits
    filled = np.zeros((*codes.shape[:-1], -(-codes.shape[-1] // each) * each), np.uint8)
    filled[..., : codes.shape[-1]] = codes
    shifts = np.arange(0, 8, bits)[:: -1 if high_first else 1]
    return (filled.reshape(*codes.shape[:-1], -1, each) << shifts).sum(-1).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "floats"])
def test_blocks_of_a_few_bits(bits: int, zeros: str, tmp_path: Path) -> None:
    codes, scale = whole(0, 1 << bits, OUTPUTS, BLOCKS * SIZE), numbers(OUTPUTS, BLOCKS)
    zero = whole(0, 1 << bits, OUTPUTS, BLOCKS) if zeros != "none" else np.full((OUTPUTS, BLOCKS), 1 << bits - 1)
    constants = {"a.weight_Q2G32": packed(codes.reshape(OUTPUTS, BLOCKS, SIZE), bits), "s": scale}
    if zeros != "none":
        constants["z"] = packed(zero, bits) if zeros == "packed" else zero.astype(np.float32)
    step = node("MatMulNBits", ["x", *constants], N=OUTPUTS, K=INPUTS, bits=bits, block_size=SIZE)
    source = saved(tmp_path, [step], constants)
    expected = ((codes - np.repeat(zero, SIZE, 1)) * np.repeat(scale, SIZE, 1))[:, :INPUTS]
    np.testing.assert_allclose(read(source), expected, rtol=1e-6)
    rows = source.tensors["a.weight"].shape[1] * 4
    part = source.read("a.weight", rows + 40, 3 * rows - 8).view(np.float32)
    np.testing.assert_allclose(part, expected.reshape(-1)[INPUTS + 10 : 3 * INPUTS - 2], rtol=1e-6)
    assert source.quantization == f"ONNX {bits} bit"


@pytest.mark.parametrize("order", [[0] * 32 + [1] * 32 + [2] * 6, [1] * 32 + [0] * 32 + [2] * 6])
def test_inputs_of_groups_in_another_order_are_not_decoded(order: list[int], tmp_path: Path) -> None:
    constants = {
        "a.weight": whole(0, 256, OUTPUTS, BLOCKS, 16).astype(np.uint8),
        "s": numbers(OUTPUTS, BLOCKS),
        "g": np.array(order, np.int32),
    }
    step = node("MatMulNBits", ["x", "a.weight", "s", "", "g"], N=OUTPUTS, K=INPUTS, bits=4, block_size=SIZE)
    source = saved(tmp_path, [step, node("MatMul", ["x", "b.weight"])], {**constants, "b.weight": numbers(4, 4)})
    assert ("a.weight" in source.tensors) is (order[0] == 0)
    assert source.unread == (() if order[0] == 0 else (("ONNX, U8 of MatMulNBits", OUTPUTS * BLOCKS * 16),))


@pytest.mark.parametrize("kind", [0, 1])
def test_tables_of_bitsandbytes(kind: int, tmp_path: Path) -> None:
    """Numbers from onnxruntime's blockwise_quant_block_bnb4.h; blocks run on over rows."""
    halves = [0, 0.00520833, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25]
    nf4 = [-1, -0.69619280, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0]
    nf4 += [0.07958030, 0.16093020, 0.24611230, 0.33791524, 0.44070983, 0.56261700, 0.72295684, 1]
    table = np.array([[*halves, *(-number for number in halves)], nf4][kind])
    codes, scale = whole(0, 16, OUTPUTS * INPUTS), numbers(-(-OUTPUTS * INPUTS // 16))
    constants = {"a.weight_Bnb4": packed(codes, 4, high_first=True), "s": scale}
    source = saved(tmp_path, [node("MatMulBnb4", ["x", *constants], N=OUTPUTS, K=INPUTS, quant_type=kind, block_size=16)], constants)
    expected = table[codes] * np.repeat(scale, 16)[: len(codes)]
    np.testing.assert_allclose(read(source), expected.reshape(OUTPUTS, INPUTS), rtol=1e-5)


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_tables_in_blocks(axis: int, typed: bool, tmp_path: Path) -> None:
    rows, columns, size = 40, 48, 16
    codes, shape = whole(0, 16, rows, columns), (-(-rows // 16), columns) if axis == 0 else (rows, columns // 16)
    scale, zero = numbers(*shape), whole(0, 16, *shape)
    more: tuple[Any, ...] = ()
    constants = {"s": scale}
    if typed:
        more = tuple(
            helper.make_tensor(name, TensorProto.UINT4, few.shape, few.ravel()) for name, few in (("a.weight", codes), ("z", zero))
        )
    else:
        constants |= {"a.weight": packed(codes, 4), "z": packed(zero, 4)}
    step = node("GatherBlockQuantized", ["a.weight", "x", "s", "z"], block_size=size, quantize_axis=axis, bits=4)
    wide = [np.repeat(few, size, axis)[:rows, :columns] for few in (scale, zero)]
    np.testing.assert_allclose(read(saved(tmp_path, [step], constants, more)), (codes - wide[1]) * wide[0], rtol=1e-6)


CAST, SCALE, PRODUCT = node("Cast", ["w"], to=1), node("Mul", ["Cast_out", "s"]), node("MatMul", ["x", "Mul_out"])
TURN, ROWS = node("Transpose", ["w"], perm=[1, 0]), node("Gather", ["w", "x"])
TURNED, GATHERED = node("Cast", ["Transpose_out"], to=1), node("Cast", ["Gather_out"], to=1)
WHOLE = node("Reshape", ["Mul_out", "whole"], "r"), node("Gemm", ["x", "r"], transB=1)
CHAINS: dict[str, tuple[list[Any], tuple[int, ...]]] = {  # the nodes, and the shape of the scales
    "one scale": ([CAST, SCALE, PRODUCT], ()),
    "outputs": ([CAST, node("Mul", ["s", "Cast_out"]), PRODUCT], (6,)),
    "inputs": ([CAST, SCALE, PRODUCT], (4, 1)),
    "zero": ([CAST, node("Cast", ["z"], "zf", to=1), node("Sub", ["Cast_out", "zf"]), node("Mul", ["Sub_out", "s"]), PRODUCT], (6,)),
    "turned before": ([TURN, TURNED, SCALE, PRODUCT], (4,)),
    "turned before, scale a column": (
        [TURN, node("DequantizeLinear", ["Transpose_out", "s"], axis=0), node("MatMul", ["x", "DequantizeLinear_out"])],
        (6,),
    ),
    "turned behind": ([CAST, SCALE, node("Transpose", ["Mul_out"], perm=[1, 0]), node("MatMul", ["x", "Transpose_out"])], (4, 1)),
    "blocks": (
        [node("Reshape", ["w", "in blocks"]), node("Cast", ["Reshape_out"], to=1), SCALE, *WHOLE],
        (4, 3, 1),
    ),
    "rows of a table": ([ROWS, GATHERED, SCALE], (6,)),
    "rows of scales": (
        [ROWS, GATHERED, node("Gather", ["s", "x"], "sg"), node("Unsqueeze", ["sg", "one"]), node("Mul", ["Cast_out", "Unsqueeze_out"])],
        (4,),
    ),
}


@pytest.mark.parametrize("kind", list(CHAINS))
def test_chains_of_plain_operators(kind: str, tmp_path: Path) -> None:
    """Held against ONNX' own evaluator: a product with the identity, or all rows of the table."""
    nodes, shape = CHAINS[kind]
    constants = {"w": whole(-128, 128, 4, 6).astype(np.int8), "s": numbers(*shape), "z": whole(-5, 5, 6).astype(np.int8)}
    constants |= {"in blocks": np.array([4, 3, 2]), "whole": np.array([4, 6]), "one": np.array([1])}
    used = {name for made in nodes for name in made.input}
    is_table = kind.startswith("rows")
    source = saved(tmp_path, nodes, {name: value for name, value in constants.items() if name in used})
    model = onnx.load(tmp_path / "model.onnx")
    width = next(iter(source.tensors.values())).shape[1]
    given = np.arange(4) if is_table else np.eye(width, dtype=np.float32)
    if is_table:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    result = np.asarray(ReferenceEvaluator(model).run(None, {"x": given})[0])
    (name,) = source.tensors
    np.testing.assert_allclose(read(source, name), result if is_table else result.T, rtol=1e-5)
    assert source.unread == ()


@pytest.mark.parametrize("scales", ["direction", "column"])
def test_an_lstm_of_whole_numbers(scales: str, tmp_path: Path) -> None:
    hidden, width, directions = 3, 5, 2
    shapes = {"W": (directions, width, 4 * hidden), "R": (directions, hidden, 4 * hidden)}
    stored = {name: whole(-128, 128, *shape).astype(np.int8) for name, shape in shapes.items()}
    shape = (directions,) if scales == "direction" else (directions, 4 * hidden)
    few = {
        "ws": numbers(*shape),
        "wz": whole(-5, 5, *shape).astype(np.int8),
        "rs": numbers(*shape),
        "rz": whole(-5, 5, *shape).astype(np.int8),
    }
    bias = numbers(directions, 8 * hidden)
    inputs = ["x", "W", "R", "B", "", "", "", "", "ws", "wz", "rs", "rz"]
    step = node("DynamicQuantizeLSTM", inputs, hidden_size=hidden, direction="bidirectional")
    source = saved(tmp_path, [step], {**stored, **few, "B": bias})
    for direction, suffix in enumerate(("", "_reverse")):
        for kind, first in (("W", "w"), ("R", "r")):
            scale, zero = few[f"{first}s"][direction], few[f"{first}z"][direction]
            i, o, f, c = np.split(((stored[kind][direction] - zero.astype(np.float32)) * scale).T, 4)
            found = read(source, f"a.weight_{'ih' if kind == 'W' else 'hh'}_l0{suffix}")
            np.testing.assert_allclose(found, np.concatenate([i, f, c, o]), rtol=1e-6)
        i, o, f, c = np.split(bias[direction, : 4 * hidden], 4)
        np.testing.assert_array_equal(read(source, f"a.bias_ih_l0{suffix}").ravel(), np.concatenate([i, f, c, o]))
    assert (len(source.tensors), source.unread) == (8, ())


def test_biases_of_whole_numbers(tmp_path: Path) -> None:
    """Stored in units of the scales of inputs and weights."""
    constants = {
        "xs": np.float32(0.25),
        "a.weight": whole(-9, 9, 5, 3, 2, 2).astype(np.int8),
        "ws": numbers(5),
        "a.bias": whole(-999, 999, 5).astype(np.int32),
    }
    constants |= {"xz": np.uint8(3), "wz": np.int8(0)}
    step = node("QLinearConv", ["x", "xs", "xz", "a.weight", "ws", "wz", "xs", "xz", "a.bias"])
    source = saved(tmp_path, [step], constants)
    assert set(source.tensors) == {"a.weight", "a.bias"}
    np.testing.assert_allclose(read(source, "a.bias").ravel(), constants["a.bias"] * constants["ws"] * 0.25, rtol=1e-6)


def test_four_bit_floats_with_scales_that_are_scaled(tmp_path: Path) -> None:
    """NVFP4, as exporters write it: an FP8 scale for each block, and one for these."""
    codes = helper.make_tensor("a.weight", TensorProto.FLOAT4E2M1, (4, 32), RANDOM.choice([0, 0.5, 1, 1.5, 2, 3, 4, 6, -1.5], 128))
    scale = helper.make_tensor("s", TensorProto.FLOAT8E4M3FN, (4, 2), [1, 2, 3, 4, 5, 6, 7, 8])
    nodes = [node("DequantizeLinear", ["s", "one"], "sd"), node("DequantizeLinear", ["a.weight", "sd"], axis=1, block_size=16)]
    nodes.append(node("Gemm", ["x", "DequantizeLinear_out"], transB=1))
    source = saved(tmp_path, nodes, {"one": np.float32(0.5)}, (codes, scale))
    assert list(source.tensors) == ["a.weight"]
    wide = np.repeat(np.arange(1, 9).reshape(4, 2), 16, 1) / 2
    np.testing.assert_allclose(read(source), np.asarray(numpy_helper.to_array(codes)).astype(np.float32) * wide)


UNREAD = {
    "three bits": (node("MatMulNBits", ["x", "w", "s"], N=4, K=32, bits=3, block_size=16), "ONNX, U8 of MatMulNBits"),
    "experts": (node("QMoE", ["x", "x", "w", "s", "", "w2", "s2"], k=2), "ONNX, U8 of QMoE"),
    "no scale": (node("MatMulInteger", ["x", "w"]), "ONNX, U8 of MatMulInteger"),
    "somebody's own": (node("SomebodysMatMul", ["x", "w", "s"]), "ONNX, U8 of SomebodysMatMul"),
}


@pytest.mark.parametrize("kind", list(UNREAD))
def test_what_is_not_decoded_is_counted(kind: str, tmp_path: Path) -> None:
    step, what = UNREAD[kind]
    many = {"w": whole(0, 256, 4, 32).astype(np.uint8), "w2": whole(0, 256, 8, 8).astype(np.uint8), "s": numbers(4, 2), "s2": numbers(8, 2)}
    constants = {name: value for name, value in many.items() if name in step.input}
    source = saved(tmp_path, [step, node("MatMul", ["x", "b.weight"])], {**constants, "b.weight": numbers(4, 4)})
    assert source.unread == ((what, sum(value.nbytes for name, value in constants.items() if name[0] == "w")),)
    assert what in source.notes[-1]
    (tmp_path / "alone").mkdir()
    if kind != "somebody's own":
        with pytest.raises(UnsupportedFormat, match=what):
            saved(tmp_path / "alone", [step], constants)


def test_constants_of_other_types_are_counted(tmp_path: Path) -> None:
    more = helper.make_tensor("c", TensorProto.COMPLEX64, (4, 4), np.ones(16, np.complex64))
    text = helper.make_tensor("t", TensorProto.STRING, (1,), [b"words"])
    source = saved(
        tmp_path, [node("Somebodys", ["x", "c", "t"]), node("MatMul", ["x", "b.weight"])], {"b.weight": numbers(4, 4)}, (more, text)
    )
    assert source.unread == (("ONNX, complex64 constants", 128),)
