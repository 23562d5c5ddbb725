"""Folders as repositories are laid out, after listings of the Hub; each with what is in it and what has to become of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import safetensors.numpy
import torch
from msgspec import Struct

from benchmarks.hostile import written
from benchmarks.hostile.graphs import ct2_bytes, ct2_names

Tensors = dict[str, Any]
Make = Callable[[Path], Tensors]
CONFIG = json.dumps({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2})
INDEX = "model.safetensors.index.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "a" + "\nsize 123456789\n"


class Layout(Struct, frozen=True):
    """`make` writes a folder and tells the tensors that have to be read; `refused`: words of the refusal instead; `noted`: of the notes."""

    name: str
    make: Make
    noted: tuple[str, ...] = ()
    refused: tuple[str, ...] | None = None
    file: str | None = None


def weights(seed: int = 1) -> Tensors:
    """Two layers of MLP matrices and gains."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for layer in range(2):
        front = f"model.layers.{layer}."
        shapes = {"mlp.up_proj": (96, 64), "mlp.gate_proj": (96, 64), "mlp.down_proj": (64, 96)}
        found |= {f"{front}{role}.weight": rng.standard_normal(shape, np.float32) for role, shape in shapes.items()}
    return found


def halves(tensors: Tensors) -> tuple[Tensors, Tensors]:
    names = sorted(tensors)
    middle = len(names) // 2
    return {name: tensors[name] for name in names[:middle]}, {name: tensors[name] for name in names[middle:]}


def put(folder: Path, files: dict[str, Any]) -> None:
    """Files by name; texts, bytes, or tensors as the ending says."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data if isinstance(data, bytes) else as_file(name, data))


def as_file(name: str, tensors: Tensors) -> bytes:
    """Tensors in the container of a name."""
    if name.endswith(".safetensors"):
        return safetensors.numpy.save(tensors)
    if name.endswith((".h5", ".hdf5")):
        return written.keras_bytes(tensors)
    if name.endswith(".keras"):
        return written.keras_archive(written.keras_bytes(tensors))
    if name.endswith(".msgpack"):
        return written.flax_bytes(tensors)
    if name.endswith(".pdparams"):
        return written.paddle_pickle(tensors)
    if name.endswith(".npz"):
        stream = io.BytesIO()
        np.savez(stream, **tensors)
        return stream.getvalue()
    return torch_bytes({key: torch.from_numpy(array) for key, array in tensors.items()})


def torch_bytes(value: Any, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def index(parts: dict[str, Tensors], **more: str) -> str:
    """A shard index; `more`: entries that are not so."""
    names = {name: file for file, tensors in parts.items() for name in tensors}
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": {**names, **more}})


def single(*names: str, beside: dict[str, Any] | None = None, folder: Path) -> Tensors:
    """The same weights in files of these names, with a config and what lies beside."""
    tensors = weights()
    put(folder, {"config.json": CONFIG, **dict.fromkeys(names, tensors), **(beside or {})})
    return tensors


def one(name: str, *names: str, beside: dict[str, Any] | None = None, **told: Any) -> Layout:
    return Layout(name, lambda folder: single(*names, beside=beside, folder=folder), **told)


def sharded(folder: Path, pattern: str = "model-{:05}-of-00002.safetensors", first: int = 1, **more: Any) -> Tensors:
    """Two shards. `more`: `index` says of the index: its name, `entries` that are not so, `without` a shard or an index."""
    tensors = weights()
    parts = {pattern.format(first + at): half for at, half in enumerate(halves(tensors))}
    put(folder, {"config.json": CONFIG, **parts})
    if more.get("index", INDEX):
        put(folder, {more.get("index", INDEX): index(parts, **more.get("entries", {}))})
    if "without" in more:
        (folder / more["without"]).unlink()
        return halves(tensors)[1 - list(parts).index(more["without"])]
    return tensors


def shards(name: str, *arguments: Any, told: dict[str, Any] | None = None, **more: Any) -> Layout:
    return Layout(name, lambda folder: sharded(folder, *arguments, **more), **(told or {}))


def overlaid(folder: Path) -> Tensors:
    """A tensor in two shards, with other numbers; the index tells which counts."""
    tensors = weights()
    one, two = halves(tensors)
    name = sorted(one)[0]
    put(folder, {"model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": {**two, name: one[name] + 1}})
    put(folder, {INDEX: index({"model-00001-of-00002.safetensors": one, "model-00002-of-00002.safetensors": two})})
    return tensors


def sliced(folder: Path) -> Tensors:
    """Files that hold a slice of each matrix, as Meta publishes."""
    tensors = {**weights(), "norm.weight": np.ones(64, np.float32)}
    for at in range(2):
        cut = {name: array if array.ndim == 1 else np.split(array, 2, int("down" in name))[at] for name, array in tensors.items()}
        put(folder, {f"consolidated.{at:02}.pth": cut})
    return tensors


def ggufs(folder: Path, **files: str) -> Tensors:
    """GGUF files: name -> type of the matrices."""
    tensors = weights()
    for name, kind in files.items():
        writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama")
        number = gguf.GGMLQuantizationType[kind]
        for key, array in tensors.items():
            _, _, layer, _, role, _ = key.split(".")
            writer.add_tensor(f"blk.{layer}.ffn_{role.removesuffix('_proj')}.weight", gguf.quantize(array, number), raw_dtype=number)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return tensors


def gguf_folder(folder: Path, *plain: str, **files: str) -> Tensors:
    put(folder, {name: b"GGUF" + bytes(60) for name in plain})
    return ggufs(folder, **files)


def graph(folder: Path, name: str = "model.onnx", data: str = "") -> Tensors:
    """An ONNX model, its numbers in a file beside if that has a name."""
    tensors = weights()
    kept = [onnx.numpy_helper.from_array(array, key) for key, array in tensors.items()]
    nodes = [onnx.helper.make_node("Gemm", [f"x{at}", key], [f"y{at}"], transB=1) for at, key in enumerate(tensors)]
    ends = [[onnx.helper.make_tensor_value_info(f"{end}{at}", 1, None) for at in range(len(nodes))] for end in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", *ends, kept))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    options = {"save_as_external_data": True, "location": data, "size_threshold": 0} if data else {}
    onnx.save(model, folder / name, **options)
    return tensors


def several(folder: Path, files: dict[str, Any]) -> Tensors:
    put(folder, files)
    return weights()


def distributed(folder: Path, below: str = "") -> Tensors:
    tensors = weights()
    put(folder, {f"{below}{name}": data for name, data in written.distributed_files(tensors).items()})
    return tensors


def openvino(folder: Path, *stems: str, **beside: Any) -> Tensors:
    tensors = weights()
    for stem in stems:
        xml, data = written.openvino_files(tensors).values()
        put(folder, {f"{stem}.xml": xml, f"{stem}.bin": data})
    put(folder, beside)
    return tensors


def converted(folder: Path) -> Tensors:
    tensors = weights()
    put(folder, {"model.bin": ct2_bytes(ct2_names(tensors)), "config.json": CONFIG, "vocabulary.json": "[]"})
    return tensors


def parts(folder: Path, index_name: str, entries: Any) -> Tensors:
    """A pipeline of two models."""
    one, two = weights(1), weights(2)
    put(
        folder,
        {index_name: json.dumps(entries), "unet/diffusion_pytorch_model.safetensors": one, "vae/diffusion_pytorch_model.safetensors": two},
    )
    put(folder, {"unet/config.json": CONFIG, "vae/config.json": CONFIG})
    return {**{f"unet/{name}": array for name, array in one.items()}, **{f"vae/{name}": array for name, array in two.items()}}


def cached(folder: Path) -> Tensors:
    """A snapshot of the Hub's cache, whose files are links into its blobs."""
    tensors = weights()
    home = folder.parent / "models--org--name"
    (home / "snapshots").mkdir(parents=True)
    put(home / "blobs", {"abc": safetensors.numpy.save(tensors)})
    folder.rename(home / "snapshots" / "123")
    folder.symlink_to(home / "snapshots" / "123")
    (folder / "model.safetensors").symlink_to("../../blobs/abc")
    return tensors


def with_empty(folder: Path) -> Tensors:
    tensors = weights()
    put(folder, {"model.safetensors": {**tensors, "model.layers.0._extra_state": np.zeros((0,), np.float32)}})
    return tensors


def without_metadata(folder: Path) -> Tensors:
    tensors = weights()
    data = safetensors.numpy.save(tensors)
    length = int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": None, **json.loads(data[8 : 8 + length])}).encode()
    put(folder, {"model.safetensors": len(header).to_bytes(8, "little") + header + data[8 + length :]})
    return tensors


def trained(folder: Path, legacy: bool = False, **inside: Any) -> Tensors:
    """A training checkpoint of PyTorch."""
    tensors = weights()
    model = {name: torch.from_numpy(array) for name, array in tensors.items()}
    put(folder, {name.replace("__", "."): torch_bytes(make(model), legacy) for name, make in inside.items()})
    return tensors


def named(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": array for name, array in tensors.items()}


LEFT = {"optimizer.pt": torch_bytes({"a": 1}), "scheduler.pt": torch_bytes({"a": 1}), "training_args.bin": b"x", "rng_state.pth": b"x"}
TEXTS = {
    "README.md": "---\nlicense: mit\n---\n",
    "tokenizer.json": "{}",
    "tokenizer.model": b"\n\x0e",
    "merges.txt": "a b",
    ".gitattributes": "*",
}
PICK_ONE = ("--file",)
ORIGINAL = named("layers.", weights(3))
WHISPER = {"encoder.blocks.0.mlp.0.weight": np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)}


def whisper(folder: Path, *names: str) -> Tensors:
    for name in names:
        put(folder, {name: written.whisper_bytes(WHISPER)})
    return dict(WHISPER)


LAYOUTS = (
    one("safetensors", "model.safetensors", beside=TEXTS),
    one("safetensors under its own name", "llama-tiny.safetensors"),
    one("safetensors beside PyTorch", "model.safetensors", "pytorch_model.bin", noted=("left out: pytorch_model.bin",)),
    one(
        "all libraries of transformers", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", noted=("left out",)
    ),
    one("TensorFlow and Flax only", "tf_model.h5", "flax_model.msgpack", noted=("left out",)),
    one("PyTorch and TensorFlow", "pytorch_model.bin", "tf_model.h5", noted=("tf_model.h5",)),
    one("with a half-precision variant", "model.safetensors", "model.fp16.safetensors", noted=("model.fp16.safetensors",)),
    one("a variant only", "diffusion_pytorch_model.fp16.safetensors"),
    one("consolidated only", "consolidated.safetensors"),
    one("consolidated beside", "model.safetensors", beside={"consolidated.safetensors": ORIGINAL}, noted=("consolidated.safetensors",)),
    one("Meta's original below", "model.safetensors", beside={"original/consolidated.00.pth": ORIGINAL, "original/params.json": "{}"}),
    one("ONNX below", "model.safetensors", beside={"onnx/model.onnx": b"\x08\x07"}),
    one("GGUF beside", "model.safetensors", beside={"model-Q4_K_M.gguf": b"GGUF" + bytes(60)}, noted=("model-Q4_K_M.gguf",)),
    one("OpenVINO beside", "model.safetensors", beside=written.openvino_files(weights()), noted=("openvino_model.xml",)),
    one("what training leaves", "model.safetensors", beside=LEFT),
    one("checkpoints of the training below", "model.safetensors", beside={"checkpoint-9/model.safetensors": weights(2)}),
    one("adapters below", "model.safetensors", beside={"lora/adapter_model.safetensors": weights(2)}),
    one("an importance matrix", "model.safetensors", beside={"imatrix.dat": b"x", "imatrix.gguf": b"GGUF"}),
    Layout("empty tensors", with_empty, noted=("_extra_state",)),
    Layout("metadata that is null", without_metadata),
    shards("shards with an index"),
    shards("shards without an index", index=""),
    shards("shards counted from 0", first=0, index=""),
    shards("shards with six digits", "model-{:06}-of-000002.safetensors"),
    shards("an index with a tensor too many", entries={"model.layers.9.up_proj.weight": "model-00001-of-00002.safetensors"}),
    shards("an index of other shards", entries={"model.layers.9.up_proj.weight": "model-00009-of-00009.safetensors"}),
    shards("a shard is missing", index="", without="model-00002-of-00002.safetensors", told={"noted": ("1 of 2 shards",)}),
    shards("a shard of an index is missing", without="model-00002-of-00002.safetensors", told={"refused": ("model-00002-of-00002",)}),
    shards("shards of PyTorch", "pytorch_model-{:05}-of-00002.bin", index="pytorch_model.bin.index.json"),
    shards("shards of a variant", "model-{:05}-of-00002.fp16.safetensors", index=""),
    shards("shards of Flax", "flax_model-{:05}-of-00002.msgpack", index="flax_model.msgpack.index.json"),
    shards("shards of Paddle", "model_state-{:05}-of-00002.pdparams", index="model_state.pdparams.index.json"),
    Layout("shards that overlap", overlaid),
    Layout("slices for two devices", sliced, noted=("slice of each matrix",)),
    Layout("one level down", lambda folder: several(folder, {"weights/model.safetensors": weights()}), noted=("one level down",)),
    Layout(
        "two below",
        lambda folder: several(folder, {f"{name}/model.safetensors": weights() for name in ("fp16", "int8")}),
        refused=("fp16/model.safetensors", "--file"),
    ),
    Layout(
        "one of two below",
        lambda folder: several(folder, {"a/model.safetensors": weights(), "b/model.safetensors": weights(2)}),
        file="a/model.safetensors",
    ),
    Layout(
        "checkpoints only",
        lambda folder: several(folder, {f"checkpoint-{n}/model.safetensors": weights() for n in (100, 200, 300)}),
        refused=("checkpoint-100/model.safetensors", "--file"),
    ),
    Layout("two models", lambda folder: several(folder, {"a.safetensors": weights(), "b.safetensors": weights(2)}), refused=PICK_ONE),
    Layout(
        "one of two models",
        lambda folder: several(folder, {"a.safetensors": weights(), "b.safetensors": weights(2)}),
        file="a.safetensors",
    ),
    one("PyTorch", "pytorch_model.bin"),
    one("PyTorch as .pth", "model.pth"),
    one("PyTorch as .pth.tar", "model_best.pth.tar"),
    Layout("PyTorch's older form", lambda folder: trained(folder, legacy=True, model__pt=lambda model: model)),
    Layout(
        "a training state", lambda folder: trained(folder, last__pt=lambda model: {"model": model, "optimizer": {"state": {}}, "epoch": 3})
    ),
    Layout("Lightning", lambda folder: trained(folder, last__ckpt=lambda model: {"state_dict": model, "callbacks": {}, "epoch": 3})),
    Layout(
        "two training states", lambda folder: trained(folder, best__pt=lambda model: model, last__pt=lambda model: model), refused=PICK_ONE
    ),
    Layout("GGUF", lambda folder: ggufs(folder, **{"tiny-Q8_0": "Q8_0"})),
    Layout(
        "several quantisations",
        lambda folder: ggufs(folder, **{"tiny-Q8_0": "Q8_0", "tiny-F16": "F16", "tiny-Q5_0": "Q5_0"}),
        noted=("tiny-F16.gguf is read",),
    ),
    Layout("GGUF with a vision part", lambda folder: gguf_folder(folder, "mmproj-tiny-f16.gguf", **{"tiny-F16": "F16"}), noted=("mmproj",)),
    Layout("GGUF of two models", lambda folder: ggufs(folder, **{"tiny-F16": "F16", "other-F16": "F16"}), refused=PICK_ONE),
    Layout("ONNX", graph),
    Layout("ONNX with data beside", lambda folder: graph(folder, data="model.onnx_data")),
    Layout("ONNX in its folder", lambda folder: graph(folder, "onnx/model.onnx"), noted=("onnx/",)),
    Layout("CTranslate2", converted),
    one("NumPy", "weights.npz"),
    one("Keras archive", "model.keras"),
    one("KerasHub", "model.weights.h5", beside={"metadata.json": "{}", "tokenizer.json": "{}"}),
    one("Flax", "flax_model.msgpack"),
    one("Paddle", "model_state.pdparams", beside={"model_config.json": "{}"}),
    Layout("OpenVINO with tokenizers", lambda folder: openvino(folder, "openvino_model", "openvino_tokenizer", "openvino_detokenizer")),
    Layout(
        "OpenVINO of several parts",
        lambda folder: openvino(folder, "openvino_language_model", "openvino_vision_embeddings_model"),
        refused=PICK_ONE,
    ),
    Layout(
        "NeMo",
        lambda folder: several(folder, {"tiny.nemo": written.nemo_bytes(as_file("x.ckpt", weights())), "README.md": "a"}),
    ),
    Layout("whisper.cpp", lambda folder: whisper(folder, "ggml-tiny.bin")),
    Layout("whisper.cpp, several sizes", lambda folder: whisper(folder, "ggml-tiny.bin", "ggml-base.bin"), refused=PICK_ONE),
    Layout("torch.distributed", distributed),
    Layout("torch.distributed below", lambda folder: distributed(folder, "step-100/"), noted=("step-100/",)),
    Layout("a pipeline", lambda folder: parts(folder, "model_index.json", {"_class_name": "P", "unet": ["d", "U"], "vae": ["d", "V"]})),
    Layout("a snapshot of the cache", cached),
    Layout("a pointer instead of a file", lambda folder: several(folder, {"model.safetensors": POINTER}), refused=("git lfs pull",)),
    Layout("pickles of objects", lambda folder: several(folder, {"model.pkl": b"\x80\x04N."}), refused=("convert", "model.pkl")),
    Layout("no weights", lambda folder: several(folder, TEXTS), refused=("no weights",)),
    Layout("an engine", lambda folder: several(folder, {"rank0.engine": b"x", "config.json": "{}"}), refused=("no weights",)),
)
assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
