"""TFLite files, written with flatbuffers."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
import tflite
from msgspec import Struct

from modelkin_indexer.source import Source

RANDOM = np.random.default_rng(0)
TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}


class Given(Struct):
    """A tensor of a file in the making; without values it is computed."""

    name: str
    values: Any = None
    scale: Any = None
    zero: Any = None
    axis: int = 0
    shape: tuple[int, ...] = ()


def vector(builder: Any, items: list[int], start: Any) -> int:
    start(builder, len(items))
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def written(tensors: list[Given], operators: list[tuple[int, list[int], list[int]]]) -> bytes:
    """A model of one subgraph; operators are (builtin code, inputs, outputs)."""
    b = flatbuffers.Builder(0)
    made, buffers = [], []
    for number, given_tensor in enumerate(tensors):
        data = None if given_tensor.values is None else b.CreateByteVector(np.ascontiguousarray(given_tensor.values).tobytes())
        tflite.BufferStart(b)
        if data is not None:
            tflite.BufferAddData(b, data)
        buffers.append(tflite.BufferEnd(b))
        shape = b.CreateNumpyVector(np.array(given_tensor.shape or given_tensor.values.shape, np.int32))
        name, quantised = b.CreateString(given_tensor.name), None
        if given_tensor.scale is not None:
            scale = b.CreateNumpyVector(np.array(given_tensor.scale, np.float32))
            zero = b.CreateNumpyVector(np.array(given_tensor.zero, np.int64))
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, given_tensor.axis)
            quantised = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, 0 if given_tensor.values is None else TYPES[str(given_tensor.values.dtype)])
        tflite.TensorAddBuffer(b, number)
        tflite.TensorAddName(b, name)
        if quantised is not None:
            tflite.TensorAddQuantization(b, quantised)
        made.append(tflite.TensorEnd(b))
    codes, ops = [], []
    for index, (code, inputs, outputs) in enumerate(operators):
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, min(code, 127))
        tflite.OperatorCodeAddBuiltinCode(b, code)
        codes.append(tflite.OperatorCodeEnd(b))
        taken, given_out = b.CreateNumpyVector(np.array(inputs, np.int32)), b.CreateNumpyVector(np.array(outputs, np.int32))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, index)
        tflite.OperatorAddInputs(b, taken)
        tflite.OperatorAddOutputs(b, given_out)
        ops.append(tflite.OperatorEnd(b))
    some, nodes = vector(b, made, tflite.SubGraphStartTensorsVector), vector(b, ops, tflite.SubGraphStartOperatorsVector)
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, some)
    tflite.SubGraphAddOperators(b, nodes)
    graphs = vector(b, [tflite.SubGraphEnd(b)], tflite.ModelStartSubgraphsVector)
    kinds, held = vector(b, codes, tflite.ModelStartOperatorCodesVector), vector(b, buffers, tflite.ModelStartBuffersVector)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, kinds)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, held)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def values(source: Source, name: str) -> Any:
    info = source.tensors[name]
    return source.read(name, 0, info.nbytes).view({"F32": np.float32, "F16": np.float16}[info.dtype]).reshape(info.shape)


def numbers(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def small() -> bytes:
    op = tflite.BuiltinOperator
    tensors = [
        Given("input", shape=(1, 8, 8, 3)),
        Given("conv", numbers(4, 3, 2, 3)),
        Given("dense", numbers(5, 7)),
        Given("axes", np.arange(4, dtype=np.int32)),
        Given("dense", numbers(6)),
        Given("nothing", np.array([np.nan], np.float32)),
    ]
    return written(tensors, [(op.CONV_2D, [0, 1], [0]), (op.FULLY_CONNECTED, [0, 2, 4], [0])])
