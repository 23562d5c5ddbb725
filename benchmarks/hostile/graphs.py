"""Damaged and hostile ONNX and CTranslate2 files, at least 200 each, and what has to become of each."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import onnx

from benchmarks.hostile.expected import NOTED, REFUSED

CT2_TYPES = ("float32", "int8", "int16", "int32", "float16")
Case = tuple[bytes, str]
Tensors = dict[str, Any]


def onnx_model(tensors: Tensors) -> Any:
    """One MatMul a matrix, its values as raw bytes."""
    kept = [onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()]
    nodes = [onnx.helper.make_node("MatMul", [f"x{n}", name], [f"y{n}"]) for n, name in enumerate(tensors)]
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)  # noqa: E731
    count = range(len(nodes))
    graph = onnx.helper.make_graph(nodes, "g", [value(f"x{n}") for n in count], [value(f"y{n}") for n in count], kept)
    return onnx.helper.make_model(graph)


def external(tensor: Any, **entries: str) -> None:
    """The values said to lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)


def onnx_files(tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case]) -> Iterator[Case]:
    """Files: cut, with shapes, types and bytes that do not fit, values said to lie elsewhere, bad numbers."""
    yield from cuts
    whole = onnx_model(tensors)

    def changed(number: int) -> tuple[Any, Any]:
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        return model, model.graph.initializer[number]

    for number in range(len(tensors)):
        for dims in ((48, 33), (47, 32), (-48, -32), (2**62, 4), (2**31, 2**31), (0, 32), (1,) * 70):
            model, tensor = changed(number)
            tensor.dims[:] = dims
            yield model.SerializeToString(), REFUSED
        for kind in (onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            model, tensor = changed(number)
            tensor.data_type = kind
            yield model.SerializeToString(), REFUSED
        for data in (tensor.raw_data[:-1], tensor.raw_data[:-4], tensor.raw_data + b"\0\0\0\0"):
            model, tensor = changed(number)
            tensor.raw_data = data
            yield model.SerializeToString(), REFUSED
        for place in ("../elsewhere.bin", "/etc/passwd", "", ".", "/home", "a/../../b.bin", "C:\\windows\\system32"):
            model, tensor = changed(number)
            external(tensor, location=place)
            yield model.SerializeToString(), REFUSED
    for tensors in not_finite:
        yield onnx_model(tensors).SerializeToString(), NOTED


def ct2_text(words: str) -> bytes:
    return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"


def ct2_variable(name: str, values: Any, **said: Any) -> bytes:
    """One variable; `said` replaces its axes, type, or number of bytes by others."""
    shape = said.get("shape", values.shape)
    kind, size = said.get("kind", CT2_TYPES.index(str(values.dtype))), said.get("size", values.nbytes)
    return ct2_text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape) + struct.pack("<BI", kind, size) + values.tobytes()


def ct2_bytes(tensors: Tensors, lies: dict[str, Any] | None = None, version: int = 6, count: int | None = None) -> bytes:
    """A model.bin of the library's binary format."""
    lies = lies or {}
    head = (
        struct.pack("<I", version)
        + ct2_text("TransformerDecoderModelSpec")
        + struct.pack("<II", 3, len(tensors) if count is None else count)
    )
    return head + b"".join(ct2_variable(name, values, **lies.get(name, {})) for name, values in tensors.items()) + struct.pack("<I", 0)


def ct2_names(tensors: Tensors) -> Tensors:
    """The same values under the library's names."""
    roles = {"up_proj": "linear_0_noact", "gate_proj": "linear_0", "down_proj": "linear_1"}
    return {f"decoder/layer_{name.split('.')[2]}/ffn/{roles[name.split('.')[4]]}/weight": values for name, values in tensors.items()}


def ct2_files(tensors: Tensors, not_finite: Iterator[Tensors], cuts: Iterator[Case], rng: random.Random) -> Iterator[Case]:
    """Files: cut, of other versions and counts, with shapes, types and sizes that do not fit, bad numbers."""
    yield from cuts
    sound = ct2_names(tensors)
    for version in (0, 1, 3, 7, 99, 2**31, 2**32 - 1):
        yield ct2_bytes(sound, version=version), REFUSED
    for count in (len(sound) + 1, len(sound) + 9, 2**20, 2**31, 2**32 - 1):
        yield ct2_bytes(sound, count=count), REFUSED
    for name in sound:
        for shape in ((48, 33), (47, 32), (48,), (1,) * 9, (1,) * 255, (2**32 - 1, 2**32 - 1), (2**31, 2), (0, 32)):
            yield ct2_bytes(sound, {name: {"shape": shape}}), REFUSED
        for kind in (1, 2, 4, 6, 99, 255):
            yield ct2_bytes(sound, {name: {"kind": kind}}), REFUSED
        for size in (0, 1, 48 * 32 * 4 - 4, 2**31, 2**32 - 1):
            yield ct2_bytes(sound, {name: {"size": size}}), REFUSED
    whole = ct2_bytes(sound)
    for extra in (1, 4, 64):
        yield whole + rng.randbytes(extra), REFUSED
    for tensors in not_finite:
        yield ct2_bytes(ct2_names(tensors)), NOTED
