"""Small sound files of more containers, as bytes, written here so that every number of them can be made to lie."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import torch.distributed.checkpoint as dcp

Tensors = dict[str, Any]


def keras_bytes(tensors: Tensors, compressed: bool = False) -> bytes:
    """A `.weights.h5` of Keras 3: each matrix [out, in] as the kernel of a Dense layer of that name."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number, (name, values) in enumerate(tensors.items()):
            group = file.create_group(f"layers/dense_{number}/vars")
            group.attrs["name"] = name.removesuffix(".weight")
            group.create_dataset("0", data=np.ascontiguousarray(values.T), compression="gzip" if compressed else None)
    return stream.getvalue()


def keras_archive(weights: bytes, name: str = "model.weights.h5", method: int = zipfile.ZIP_STORED) -> bytes:
    """A `.keras` archive around them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for label, data in (("metadata.json", b"{}"), ("config.json", b"{}"), (name, weights)):
            archive.writestr(zipfile.ZipInfo(label), data, method)  # without the time of day
    return stream.getvalue()


def openvino_files(tensors: Tensors, lies: dict[str, dict[str, Any]] | None = None) -> dict[str, bytes]:
    """A graph of one MatMul a matrix and its constants; `lies`: name -> attributes of its constant other than the true ones."""
    layers, edges, at, number = [], [], 0, 1
    layers.append('<layer id="0" name="x" type="Parameter" version="opset1"><data shape="?,?" element_type="f32"/></layer>')
    for name, values in tensors.items():
        said = {"element_type": {4: "f32", 2: "f16", 1: "i8"}[values.itemsize], "shape": ", ".join(map(str, values.shape))}
        said |= {"offset": str(at), "size": str(values.nbytes), **(lies or {}).get(name, {})}
        text = " ".join(f'{key}="{value}"' for key, value in said.items())
        layers.append(f'<layer id="{number}" name="self.{name}" type="Const" version="opset1"><data {text}/></layer>')
        layers.append(f'<layer id="{number + 1}" name="m{number}" type="MatMul" version="opset1"><data transpose_b="true"/></layer>')
        edges.append(f'<edge from-layer="0" from-port="0" to-layer="{number + 1}" to-port="0"/>')
        edges.append(f'<edge from-layer="{number}" from-port="0" to-layer="{number + 1}" to-port="1"/>')
        at, number = at + values.nbytes, number + 2
    head = '<?xml version="1.0"?>\n<net name="Model0" version="11">'
    text = f"{head}<layers>{''.join(layers)}</layers><edges>{''.join(edges)}</edges></net>"
    return {"openvino_model.xml": text.encode(), "openvino_model.bin": b"".join(values.tobytes() for values in tensors.values())}


def packed(value: Any) -> bytes:
    """A value as msgpack; arrays as Flax's extension."""
    if isinstance(value, dict):
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(packed(key) + packed(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(packed, value))
    if isinstance(value, str):
        return b"\xd9" + struct.pack(">B", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    return packed_array(value.shape, value.dtype.name, value.tobytes())


def packed_array(shape: Any, kind: Any, data: Any, number: int = 1) -> bytes:
    """Flax's extension, or one that lies."""
    inside = packed((tuple(shape) if isinstance(shape, tuple) else shape, kind, data))
    return b"\xc9" + struct.pack(">IB", len(inside), number) + inside


def flax_bytes(tensors: Tensors, lies: dict[str, bytes] | None = None) -> bytes:
    """The matrices [out, in] as kernels of modules of these names; `lies`: name -> what is in its kernel's place."""
    inside: list[bytes] = []
    for name, values in tensors.items():
        kernel = (lies or {}).get(name) or packed(np.ascontiguousarray(values.T))
        inside.append(packed(name.removesuffix(".weight")) + b"\x81\xa6kernel" + kernel)
    assert len(inside) < 16
    return b"\x81\xa6params" + bytes([0x80 + len(inside)]) + b"".join(inside)


def paddle_pickle(tensors: Tensors, protocol: int = 4) -> bytes:
    """A `.pdparams`: pairs of the parameters' own names and their arrays, as paddle.save writes them."""
    pairs = {name: (f"linear_{at}.w_0", np.ascontiguousarray(values.T)) for at, (name, values) in enumerate(tensors.items())}
    return pickle.dumps(pairs, protocol)


def paddle_parameters(tensors: Tensors, lies: dict[str, dict[str, Any]] | None = None) -> bytes:
    """A `.pdiparams`: each parameter behind its type and shape, by the order of its name."""
    out = b""
    for name in sorted(tensors):
        values, said = np.ascontiguousarray(tensors[name].T), (lies or {}).get(name, {})
        kind = said.get("kind", {"float32": 5, "float16": 4, "int8": 21}[str(values.dtype)])
        text = b"\x08" + _varint(kind) + b"".join(b"\x10" + _varint(n) for n in said.get("shape", values.shape))
        head = struct.pack("<IQI", said.get("version", 0), said.get("levels", 0), said.get("inner", 0))
        out += head + struct.pack("<i", said.get("length", len(text))) + text + values.tobytes()
    return out


def paddle_program(tensors: Tensors) -> bytes:
    """The program that names them, as newer versions write it."""
    operations = [{"#": "p", "A": [0, 1, 1, f"linear_{at}.w_0"]} for at in range(len(tensors))]
    return json.dumps({"base_code": {"magic": "pir"}, "program": {"regions": [{"blocks": [{"ops": operations}]}]}}).encode()


def _varint(value: int) -> bytes:
    out = b""
    while True:
        out += bytes([(value & 127) | (128 if value > 127 else 0)])
        value >>= 7
        if not value:
            return out


def whisper_bytes(tensors: Tensors, lies: dict[str, dict[str, Any]] | None = None, **settings: int) -> bytes:
    """A ggml file of whisper.cpp; `lies`: name -> what its head says other than the truth; `settings` other than a sound model's."""
    said = {"vocab": 9, "audio_ctx": 10, "state": 32, "heads": 2, "layers": 2, "text_ctx": 8, "text_state": 32, "text_heads": 2}
    said |= {"text_layers": 2, "mels": 4, "ftype": 0, "magic": 0x67676D6C, "filters": 4, "fft": 5, "words": 3, "word": 2, **settings}
    words = struct.pack("<I", said["word"]) + b"ab"
    names = (
        "magic",
        "vocab",
        "audio_ctx",
        "state",
        "heads",
        "layers",
        "text_ctx",
        "text_state",
        "text_heads",
        "text_layers",
        "mels",
        "ftype",
    )
    out = struct.pack("<12I", *(said[name] % 2**32 for name in names))
    out += struct.pack("<2I", said["filters"], said["fft"]) + bytes(80) + struct.pack("<I", said["words"]) + 3 * words
    for name, values in tensors.items():
        told = {"axes": values.ndim, "length": len(name), "kind": {4: 0, 2: 1}[values.itemsize], "shape": values.shape[::-1]}
        told |= (lies or {}).get(name, {})
        out += struct.pack("<3I", told["axes"], told["length"], told["kind"]) + struct.pack(f"<{len(told['shape'])}I", *told["shape"])
        out += name.encode() + values.tobytes()
    return out


def nemo_bytes(checkpoint: bytes, name: str = "./model_weights.ckpt", mode: str = "w:") -> bytes:
    """A NeMo archive around a checkpoint of PyTorch."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for label, data in (("./model_config.yaml", b"name: model\n"), (name, checkpoint)):
            member = tarfile.TarInfo(label)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        end = archive.offset
    return stream.getvalue()[: end + 512] if mode == "w:" else stream.getvalue()  # of the zeros at its end one block


def distributed_files(tensors: Tensors) -> dict[str, bytes]:
    """A checkpoint of torch.distributed, as the library writes it in one process."""
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}, checkpoint_id=made)
        return {path.name: path.read_bytes() for path in sorted(Path(made).iterdir())}


def coreml_files(tensors: Tensors, lies: dict[str, dict[str, Any]] | None = None) -> dict[str, bytes]:
    """An ML Program of one linear layer a matrix, and its blobs; `lies`: name -> what is said of its constant other than the truth."""
    operations, blobs = b"", struct.pack("<II", len(tensors), 2) + bytes(56)
    for name, values in tensors.items():
        said = {
            "type": {4: 11, 2: 10}[values.itemsize],
            "shape": values.shape,
            "offset": len(blobs),
            "file": "@model_path/weights/weight.bin",
        }
        said |= {"mark": 0xDEADBEEF, "size": values.nbytes, "start": len(blobs) + 64, **(lies or {}).get(name, {})}
        blobs += struct.pack("<IIQQ", said["mark"], 1, said["size"], said["start"]) + bytes(40) + values.tobytes()
        blobs += bytes(-len(blobs) % 64)
        label = name.replace(".", "_")
        value = coreml_value(said["type"], said["shape"], _field(5, _field(1, said["file"].encode()) + b"\x10" + _varint(said["offset"])))
        operations += _field(3, coreml_operation("const", label, {"val": value}, {}))
        operations += _field(3, coreml_operation("linear", f"{label}_out", {}, {"weight": label, "x": "x"}))
    return {"model.mlmodel": coreml_model(operations), "weights/weight.bin": blobs}


def coreml_model(operations: bytes) -> bytes:
    """A model around the operations of a program's only function."""
    function = _field(2, b"CoreML8") + _field(3, _field(1, b"CoreML8") + _field(2, operations))
    program = b"\x08\x01" + _field(2, _field(1, b"main") + _field(2, function))
    return b"\x08\x09" + _field(2, b"") + _field(502, program)


def coreml_operation(kind: str, output: str, values: dict[str, bytes], inputs: dict[str, str]) -> bytes:
    """An operation with constants among its attributes, and what it takes by name."""
    out = _field(1, kind.encode()) + _field(3, _field(1, output.encode()))
    for name, source in inputs.items():
        out += _field(2, _field(1, name.encode()) + _field(2, _field(1, _field(1, source.encode()))))
    for name, value in values.items():
        out += _field(5, _field(1, name.encode()) + _field(2, value))
    return out


def coreml_value(kind: int, shape: Any, where: bytes) -> bytes:
    """A constant of a type and shape, and where its numbers are."""
    dimensions = b"".join(_field(3, _field(1, b"\x08" + _varint(n))) for n in shape)
    return _field(2, _field(1, b"\x08" + _varint(kind) + b"\x10" + _varint(len(shape)) + dimensions)) + where


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def spacy_files(
    tensors: Tensors, config: str = "config.cfg", lies: dict[str, dict[bytes, Any]] | None = None, **more: Any
) -> dict[str, bytes]:
    """A pipeline of one component for each array. `lies`: parts of an array's description other than the true ones."""
    files = {}
    for name, array in tensors.items():
        said = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": list(array.shape), b"data": array.tobytes()}
        params = [{"W": said | dict((lies or {}).get(name, {}))}]
        model = {"nodes": [{"index": 0, "name": "linear", "dims": {}, "refs": {}}], "attrs": [{}], "params": params, "shims": [[]]}
        files[f"{name}/model"] = packed(model | more)
    files[config] = f"[paths]\n\n[nlp]\npipeline = {json.dumps(list(tensors))}".encode()
    return files
