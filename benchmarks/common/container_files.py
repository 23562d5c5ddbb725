"""One set of weights written in every container that can be written here, and large sparse files of zeros."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import onnx
import safetensors.numpy
import torch

from benchmarks.hostile import bundles, checkpoints, graphs, written
from benchmarks.hostile.containers import tflite_bytes

Tensors = dict[str, npt.NDArray[Any]]
Write = Callable[[Path, Tensors], None]
WIDTH, NEURONS = 1024, 4096
GGUF_ROLES = {"up_proj": "ffn_up", "down_proj": "ffn_down", "gate_proj": "ffn_gate"}
ZEROS = bytes(1 << 20)


def weights(megabytes: int) -> Tensors:
    """MLP matrices of as many layers as fill `megabytes` in float16."""
    rng = np.random.default_rng(20260717)
    shapes = {"up_proj": (NEURONS, WIDTH), "gate_proj": (NEURONS, WIDTH), "down_proj": (WIDTH, NEURONS)}
    layers = max(1, megabytes * 1_000_000 // (6 * WIDTH * NEURONS))
    return {
        f"model.layers.{layer}.mlp.{role}.weight": (0.02 * rng.standard_normal(shape, np.float32)).astype(np.float16)
        for layer in range(layers)
        for role, shape in shapes.items()
    }


def zeros(gigabytes: int) -> Tensors:
    """Matrices of zeros of 64 MiB each; their pages take no memory until they are written to."""
    return {f"model.layers.{n}.mlp.up_proj.weight": np.zeros((8192, 4096), np.float16) for n in range(gigabytes * 16)}


class SparseFile(io.FileIO):
    """A file in which zeros that are added at its end are holes."""

    _end = 0

    def fileno(self) -> int:
        raise io.UnsupportedOperation("write through this object, or zeros are no holes")

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), len(ZEROS)):
            part = view[start : start + len(ZEROS)]
            if self.tell() >= self._end and part == ZEROS[: len(part)]:
                self.seek(len(part), io.SEEK_CUR)
            else:
                super().write(part)
            self._end = max(self._end, self.tell())
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self.truncate(self._end)
        super().close()


def write_safetensors(path: Path, tensors: Tensors) -> None:
    safetensors.numpy.save_file(tensors, path)


def sparse_safetensors(path: Path, tensors: Tensors) -> None:
    header: dict[str, Any] = {}
    at = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F16", "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + at)


def sparse_gguf(path: Path, tensors: Tensors) -> None:
    """As many bytes of Q8_0 as the tensors have, so nearly twice the numbers."""
    writer = gguf.GGUFWriter(path, "qwen2")
    kind = gguf.GGMLQuantizationType.Q8_0
    for number, values in enumerate(tensors.values()):
        rows = values.nbytes // (values.shape[1] // 32 * 34)
        shape = (rows, values.shape[1] // 32 * 34)
        writer.add_tensor_info(f"blk.{number}.ffn_up.weight", shape, np.dtype(np.uint8), rows * shape[1], raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, path.stat().st_size + sum(values.nbytes + 64 for values in tensors.values()))


def write_torch(path: Path, tensors: Tensors) -> None:
    with SparseFile(path, "w") as file:
        torch.save({name: torch.from_numpy(values) for name, values in tensors.items()}, file)


def write_legacy(path: Path, tensors: Tensors) -> None:
    with SparseFile(path, "w") as file:
        torch.save({name: torch.from_numpy(values) for name, values in tensors.items()}, file, _use_new_zipfile_serialization=False)


def write_npz(path: Path, tensors: Tensors) -> None:
    with SparseFile(path, "w") as file:
        np.savez(file, **tensors)


def write_deflated(path: Path, tensors: Tensors) -> None:
    np.savez_compressed(path, **tensors)


def write_distributed(path: Path, tensors: Tensors) -> None:
    for name, data in written.distributed_files(tensors).items():
        path.with_name(name).write_bytes(data)


def write_nemo(path: Path, tensors: Tensors) -> None:
    stream = io.BytesIO()
    torch.save({name: torch.from_numpy(values) for name, values in tensors.items()}, stream)
    path.write_bytes(written.nemo_bytes(stream.getvalue()))


def write_whisper(path: Path, tensors: Tensors) -> None:
    path.write_bytes(written.whisper_bytes(tensors))


def write_flax(path: Path, tensors: Tensors) -> None:
    named = {name.removesuffix(".weight"): {"kernel": np.ascontiguousarray(values.T)} for name, values in tensors.items()}
    path.write_bytes(written.packed({"params": named}))


def write_paddle(path: Path, tensors: Tensors) -> None:
    path.write_bytes(written.paddle_pickle(tensors))


def write_openvino(path: Path, tensors: Tensors) -> None:
    xml, data = written.openvino_files(tensors).values()
    path.write_bytes(xml)
    path.with_suffix(".bin").write_bytes(data)


def write_keras(path: Path, tensors: Tensors) -> None:
    path.write_bytes(written.keras_bytes(tensors))


def write_keras_chunks(path: Path, tensors: Tensors) -> None:
    path.write_bytes(written.keras_bytes(tensors, compressed=True))


def write_onnx(path: Path, tensors: Tensors) -> None:
    path.write_bytes(graphs.onnx_model({name: np.ascontiguousarray(values.T) for name, values in tensors.items()}).SerializeToString())


def write_onnx_outside(path: Path, tensors: Tensors) -> None:
    """The numbers in a file of their own, as exports of more than 2 GB have them."""
    model = graphs.onnx_model({name: np.ascontiguousarray(values.T) for name, values in tensors.items()})
    onnx.save(model, path, save_as_external_data=True, location="model.onnx_data")


def write_ct2(path: Path, tensors: Tensors) -> None:
    path.write_bytes(graphs.ct2_bytes(graphs.ct2_names(tensors)))


def in_single(tensors: Tensors) -> Tensors:
    """The same numbers in float32."""
    return {name: values.astype(np.float32) for name, values in tensors.items()}


def kernels(tensors: Tensors) -> Tensors:
    """The same as TensorFlow names and turns them."""
    return {f"{name.removesuffix('.weight').replace('.', '/')}/kernel": np.ascontiguousarray(values.T) for name, values in tensors.items()}


def folder_writer(make: Callable[[Tensors], dict[str, bytes]]) -> Write:
    """Writes the files, by their names, in the folder of the path; the numbers in float32."""

    def write(path: Path, tensors: Tensors) -> None:
        for name, data in make(in_single(tensors)).items():
            target = path.parent / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    return write


# Folders that these containers make, in float32: what libraries keep them in unless told otherwise.
FOLDERS: dict[str, Write] = {
    "safetensors": folder_writer(lambda tensors: {"model.safetensors": safetensors.numpy.save(tensors)}),
    "Orbax, OCDBT": folder_writer(lambda tensors: checkpoints.ocdbt_files(checkpoints.zarr_values(checkpoints.flax_named(tensors)))),
    "TensorFlow": folder_writer(lambda tensors: checkpoints.tensorflow_files(kernels(tensors))),
    "Paddle .pdiparams": folder_writer(
        lambda tensors: {"inference.pdiparams": written.paddle_parameters(tensors), "inference.json": written.paddle_program(tensors)}
    ),
    "Keras .keras": folder_writer(lambda tensors: {"model.keras": written.keras_archive(written.keras_bytes(tensors))}),
    "CoreML": folder_writer(
        lambda tensors: {f"M.mlpackage/Data/com.apple.CoreML/{name}": data for name, data in written.coreml_files(tensors).items()}
    ),
    "spaCy": folder_writer(lambda tensors: written.spacy_files({name.replace(".", "_"): values for name, values in tensors.items()})),
    "TFLite": folder_writer(lambda tensors: {"model.tflite": tflite_bytes(tensors)}),
    "LiteRT-LM": folder_writer(lambda tensors: {"model.litertlm": bundles.litertlm_bytes({"prefill_decode": tflite_bytes(tensors)})}),
    "ExecuTorch .ptd": folder_writer(lambda tensors: {"model.ptd": bundles.ptd_bytes(tensors)}),
}


def gguf_writer(kind: gguf.GGMLQuantizationType) -> Write:
    """Writes GGUF with all matrices in one type."""

    def write(path: Path, tensors: Tensors) -> None:
        writer = gguf.GGUFWriter(path, "qwen2")
        for name, values in tensors.items():
            _, _, layer, _, role, _ = name.split(".")
            stored = gguf.quantize(values.astype(np.float32), kind)
            writer.add_tensor(f"blk.{layer}.{GGUF_ROLES[role]}.weight", stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write
