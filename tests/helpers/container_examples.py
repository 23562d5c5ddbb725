"""A small file of every container of the register, and the numbers that it holds."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tflite
import torch
from onnx import TensorProto, helper, numpy_helper

import gguf_files
import tflite_files
from benchmarks.hostile import bundles, checkpoints, written
from benchmarks.hostile.written import flax_bytes, keras_archive, keras_bytes, openvino_files, paddle_parameters, paddle_pickle

Array = Any
Write = Callable[[Path, Array], None]
SHAPE = (32, 64)


def numbers() -> Array:
    """The matrix that each file holds."""
    return np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)


def _safetensors(path: Path, weight: Array) -> None:
    path.write_bytes(safetensors.numpy.save({"fc.weight": weight}))


def _torch(path: Path, weight: Array) -> None:
    torch.save({"fc.weight": torch.from_numpy(weight)}, path)


def _script(path: Path, weight: Array) -> None:
    layer = torch.nn.Linear(*reversed(SHAPE), bias=False)
    layer.weight.data = torch.from_numpy(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript files are no longer made, and still met
        torch.jit.save(torch.jit.trace(layer, torch.zeros(1, SHAPE[1])), path)


def _npz(path: Path, weight: Array) -> None:
    with path.open("wb") as file:
        np.savez(file, **{"fc.weight": weight})


def _npy(path: Path, weight: Array) -> None:
    with path.open("wb") as file:
        np.save(file, weight)


def _gguf(path: Path, weight: Array) -> None:
    gguf_files.write(path, {"output.weight": weight})


def _ctranslate2(path: Path, weight: Array) -> None:
    text = lambda words: struct.pack("<H", len(words) + 1) + words.encode() + b"\0"  # noqa: E731
    out = struct.pack("<I", 6) + text("TransformerSpec") + struct.pack("<II", 3, 1)
    out += text("decoder/embeddings/weight") + struct.pack("<B2I", 2, *weight.shape) + struct.pack("<BI", 0, weight.nbytes)
    path.write_bytes(out + weight.tobytes() + struct.pack("<I", 0))


def _onnx(path: Path, weight: Array) -> None:
    tensor = numpy_helper.from_array(weight, "fc.weight")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=1)], "g", ends[:1], ends[1:], [tensor])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString())


def _tflite(path: Path, weight: Array) -> None:
    given = [tflite_files.Given("input", shape=(1, SHAPE[1])), tflite_files.Given("dense", weight)]
    path.write_bytes(tflite_files.written(given, [(tflite.BuiltinOperator.FULLY_CONNECTED, [0, 1], [0])]))


def _keras(path: Path, weight: Array) -> None:
    path.write_bytes(keras_bytes({"fc.weight": weight}))


def _keras_archive(path: Path, weight: Array) -> None:
    path.write_bytes(keras_archive(keras_bytes({"fc.weight": weight})))


def _flax(path: Path, weight: Array) -> None:
    path.write_bytes(flax_bytes({"fc.weight": weight}))


def _orbax(path: Path, weight: Array) -> None:
    files = checkpoints.ocdbt_files(checkpoints.zarr_values({"params.fc.kernel": weight}), path.name)
    (path.parent / "d").mkdir(exist_ok=True)
    for name, data in files.items():
        (path.parent / name).write_bytes(data)


def _tensorflow(path: Path, weight: Array) -> None:
    index, data = checkpoints.tensorflow_files({"fc/kernel": weight}).values()
    path.write_bytes(index)
    path.with_name(f"{path.name.removesuffix('.index')}.data-00000-of-00001").write_bytes(data)


def _litertlm(path: Path, weight: Array) -> None:
    _tflite(path, weight)
    path.write_bytes(bundles.litertlm_bytes({"prefill_decode": path.read_bytes()}))


def _task(path: Path, weight: Array) -> None:
    _tflite(path, weight)
    path.write_bytes(bundles.task_bytes({"TF_LITE_PREFILL_DECODE": path.read_bytes()}))


def _ptd(path: Path, weight: Array) -> None:
    path.write_bytes(bundles.ptd_bytes({"fc.weight": weight}))


def _pte(path: Path, weight: Array) -> None:
    path.write_bytes(bundles.pte_bytes([weight]))


def _spacy(path: Path, weight: Array) -> None:
    for name, data in written.spacy_files({"fc": weight}, path.name).items():
        (path.parent / name).parent.mkdir(exist_ok=True)
        (path.parent / name).write_bytes(data)


def _paddle(path: Path, weight: Array) -> None:
    path.write_bytes(paddle_pickle({"fc.weight": weight}))


def _parameters(path: Path, weight: Array) -> None:
    path.write_bytes(paddle_parameters({"fc.weight": weight}))


def _whisper(path: Path, weight: Array) -> None:
    path.write_bytes(written.whisper_bytes({"decoder.token_embedding.weight": weight}))


def _nemo(path: Path, weight: Array) -> None:
    stream = io.BytesIO()
    torch.save({"fc.weight": torch.from_numpy(weight)}, stream)
    path.write_bytes(written.nemo_bytes(stream.getvalue()))


def _distributed(path: Path, weight: Array) -> None:
    files = written.distributed_files({"fc.weight": weight})
    path.write_bytes(files["__0_0.distcp"])
    said, name = files[".metadata"], path.name.encode()
    assert b"\x8c\x0c__0_0.distcp" in said
    said = said.replace(b"\x8c\x0c__0_0.distcp", b"\x8c" + bytes([len(name)]) + name)
    path.with_name(".metadata").write_bytes(said[:3] + (len(said) - 11).to_bytes(8, "little") + said[11:])


def _coreml(path: Path, weight: Array) -> None:
    program, blobs = written.coreml_files({"fc.weight": weight}).values()
    path.write_bytes(program)
    (path.parent / "weights").mkdir(exist_ok=True)
    (path.parent / "weights" / "weight.bin").write_bytes(blobs)


def _openvino(path: Path, weight: Array) -> None:
    xml, data = openvino_files({"fc.weight": weight}).values()
    path.write_bytes(xml)
    path.with_suffix(".bin").write_bytes(data)


# Container -> suffix -> how such a file is written. A container or suffix that is missing here fails tests/contract.
EXAMPLES: dict[str, dict[str, Write]] = {
    "safetensors": {".safetensors": _safetensors},
    "PyTorch": {".bin": _torch, ".pt": _torch, ".pth": _torch, ".pth.tar": _torch, ".ckpt": _torch, ".jit": _script},
    "torch.distributed": {".distcp": _distributed},
    "NumPy": {".npz": _npz, ".npy": _npy},
    "GGUF": {".gguf": _gguf},
    "CTranslate2": {".bin": _ctranslate2},
    "ONNX": {".onnx": _onnx},
    "TFLite": {".tflite": _tflite},
    "Flax": {".msgpack": _flax},
    "Orbax": {".ocdbt": _orbax},
    "TensorFlow": {".index": _tensorflow},
    "LiteRT-LM": {".litertlm": _litertlm, ".task": _task},
    "ExecuTorch": {".ptd": _ptd, ".pte": _pte},
    "spaCy": {".cfg": _spacy},
    "Paddle": {".pdparams": _paddle, ".pdiparams": _parameters},
    "whisper.cpp": {".bin": _whisper},
    "NeMo": {".nemo": _nemo},
    "CoreML": {".mlmodel": _coreml},
    "OpenVINO": {".xml": _openvino},
    "Keras": {".keras": _keras_archive, ".weights.h5": _keras, ".h5": _keras, ".hdf5": _keras},
}
