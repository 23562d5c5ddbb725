"""Damaged and hostile files of the other containers: at least 200 each, and what has to become of each. Same seed, same bytes,
but for the folder that pickles name and the addresses that PyTorch numbers storages by.
"""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import flatbuffers
import gguf
import numpy as np
import tflite
import torch

from benchmarks.hostile import latest, newer, written
from benchmarks.hostile.expected import LATE, NOTED, REFUSED
from benchmarks.hostile.graphs import ct2_bytes, ct2_files, ct2_names, onnx_files, onnx_model

CUTS = 90  # places at which a sound file is cut
CALLS = (
    *("os.system", "posix.system", "subprocess.Popen", "subprocess.check_output", "builtins.eval", "builtins.exec", "builtins.open"),
    *("builtins.__import__", "builtins.getattr", "runpy.run_path", "webbrowser.open", "socket.create_connection", "shutil.rmtree"),
    *("torch.load", "torch.hub.load", "torch.jit.load", "torch.utils.model_zoo.load_url", "numpy.load", "pickle.loads", "marshal.loads"),
    *("importlib.import_module", "ctypes.CDLL", "code.interact", "pty.spawn", "sys.exit", "operator.attrgetter", "functools.partial"),
    *("types.FunctionType", "types.CodeType", "torch._utils.__builtins__", "collections.OrderedDict.fromkeys", "torch.nn.Module"),
)
Content = bytes | dict[str, bytes]  # of a file, or of the files of a folder
Make = Callable[[random.Random, Path], Iterator[tuple[Any, str]]]
Tensors = dict[str, Any]


def sound(dtype: type = np.float32) -> Tensors:
    """Weights of two layers."""
    rng = np.random.default_rng(20260717)
    shapes = {"up_proj": (48, 32), "gate_proj": (48, 32), "down_proj": (32, 48)}
    found = {f"model.layers.{n}.mlp.{role}.weight": shape for n in range(2) for role, shape in shapes.items()}
    return {name: (0.02 * rng.standard_normal(shape)).astype(dtype) for name, shape in found.items()}


def not_finite(rng: random.Random, dtype: type) -> Iterator[Tensors]:
    """Sound weights with one number, a row or a whole tensor that is no number."""
    for value in (np.nan, np.inf, -np.inf):
        for count in (1, 32, 48 * 32):
            tensors = sound(dtype)
            tensors[rng.choice(sorted(tensors))].reshape(-1)[:count] = value
            yield tensors


def cut(whole: bytes, rng: random.Random) -> Iterator[tuple[bytes, str]]:
    for length in [0, 1, 2, 3, 4, 8, *rng.sample(range(9, len(whole) - 1), CUTS), len(whole) - 1]:
        yield whole[:length], REFUSED


def torch_bytes(value: Any, legacy: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def as_torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in tensors.items()}


def calling(name: str, mark: Path, protocol: int = 2) -> bytes:
    """A pickle that calls a function with one text. Written by hand, since the function must not be looked up here either."""
    module, _, function = name.rpartition(".")
    path = str(mark).encode()
    return b"\x80" + bytes([protocol]) + f"c{module}\n{function}\n".encode() + b"X" + struct.pack("<I", len(path)) + path + b"\x85R."


def with_pickle(data: bytes, storages: dict[str, bytes], root: str = "archive") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{root}/data.pkl", data)
        for key, stored in storages.items():
            archive.writestr(f"{root}/data/{key}", stored)
    return stream.getvalue()


def torch_zip(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """Archives: cut, with cut, false or calling pickles, with storages that are missing or short, compressed, with bad numbers."""
    whole = torch_bytes(as_torch(sound()), legacy=False)
    yield from cut(whole, rng)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    data = members["data.pkl"]
    storages = {name.removeprefix("data/"): stored for name, stored in members.items() if name.startswith("data/")}
    for length in rng.sample(range(len(data) - 1), 60):
        yield with_pickle(data[:length], storages), REFUSED
    for key in storages:
        yield with_pickle(data, {other: stored for other, stored in storages.items() if other != key}), REFUSED
        for length in rng.sample(range(len(storages[key])), 5):
            yield with_pickle(data, {**storages, key: storages[key][:length]}), REFUSED
    for name in CALLS:
        yield with_pickle(calling(name, mark), storages), REFUSED
    yield from ((bad, REFUSED) for bad in (with_pickle(b"", {}), with_pickle(data, {}, ""), b"PK\x03\x04" + rng.randbytes(4096)))
    for tensors in not_finite(rng, np.float32):
        yield torch_bytes(as_torch(tensors), legacy=False), NOTED


def torch_legacy(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """Streams of pickles: cut, with other magic numbers, calling, plain pickles of every protocol, with bad numbers."""
    whole = torch_bytes(as_torch(sound()), legacy=True)
    yield from cut(whole, rng)
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    for name in CALLS:
        yield calling(name, mark), REFUSED
        yield head + calling(name, mark), REFUSED
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for value in ({}, {"a": np.ones(3)}, [1, 2], None, "text"):
            yield pickle.dumps(value, protocol), REFUSED
    for wrong in (0, 1, 2**80, "magic", None):
        yield pickle.dumps(wrong, 2) + whole[len(pickle.dumps(0x1950A86A20F9469CFC6C, 2)) :], REFUSED
    for step in (b"c", b"i", b"o", b"P", b"\x82\x01", b"\x97", b"q\xff" * 9, b"r\xff\xff\xff\xff", b"(" * 9999, b"\x8b\xff\xff\xff\x7f"):
        yield head + b"\x80\x02" + step + b".", REFUSED
    for tensors in not_finite(rng, np.float16):
        yield torch_bytes(as_torch(tensors), legacy=True), NOTED


def npz_bytes(tensors: Tensors, compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **tensors)
    return stream.getvalue()


def npy_bytes(header: str, data: bytes) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def zipped(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def numpy_archives(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """Archives: cut, with array headers that lie, objects, compressed floods, bad numbers."""
    yield from cut(npz_bytes(sound()), rng)
    kinds = ("|O", "<c8", "<c16", ">f4", "<U3", "|S3", "|V2", "<M8[s]", "<f16", "<f3", "zz", "")
    for kind in kinds:
        for shape in ("(8,)", "(2, 4)"):
            yield zipped("a.npy", npy_bytes(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}", bytes(32))), REFUSED
    shapes = ("(7,)", "(10,)", "(-8,)", "(2**80,)", "(1099511627776, 1099511627776)", "8", "None", "('8',)", "(8.0,)", "[8]", "(True,)")
    for shape in shapes:
        for order in ("False", "True", "1"):
            yield zipped("a.npy", npy_bytes(f"{{'descr': '<f4', 'fortran_order': {order}, 'shape': {shape}}}", bytes(36))), REFUSED
    for text in ("", "{}", "[", "(" * 3000, f"__import__('os').mkdir({str(mark)!r})", "{'descr': '<f4'}", "1", "{1: 2}", "\0" * 99):
        yield zipped("a.npy", npy_bytes(text, bytes(32))), REFUSED
    for version in ((0, 0), (1, 1), (2, 0), (3, 0), (9, 9)):
        yield zipped("a.npy", b"\x93NUMPY" + bytes(version) + bytes(64)), REFUSED
    for name in ("a.txt", "a", "../a.npy.exe", "pickle.pkl"):
        yield zipped(name, bytes(64)), REFUSED
    rounded = np.random.default_rng(1).integers(-9, 9, (400, 200)).astype(np.float32)
    whole = npz_bytes({"model.layers.0.mlp.up_proj.weight": rounded}, compressed=True)
    for at in rng.sample(range(len(whole) // 2, len(whole) - 400), 30):
        yield whole[:at] + b"\xff" * 64 + whole[at + 64 :], LATE
    yield zipped("a.npy", npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (25000000,)}", bytes(100_000_000))), REFUSED
    for dtype in (np.float32, np.float16):
        for tensors in not_finite(rng, dtype):
            yield npz_bytes(tensors, compressed=dtype is np.float16), NOTED


def gguf_bytes(tensors: Tensors, folder: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> bytes:
    path = folder / "sound.gguf.part"
    writer = gguf.GGUFWriter(path, "llama")
    for name, values in tensors.items():
        _, _, layer, _, role, _ = name.split(".")
        with np.errstate(all="ignore"):
            stored = gguf.quantize(values.astype(np.float32), kind)
        writer.add_tensor(f"blk.{layer}.ffn_{role.removesuffix('_proj')}.weight", stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = path.read_bytes()
    path.unlink()
    return data


def gguf_files(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """Files: cut, with every number of their header replaced by ones that cannot be, with bad numbers in plain and quantised tensors."""
    whole = gguf_bytes(sound(), mark.parent)
    yield from cut(whole, rng)
    for at, width, values in gguf_fields(whole):
        for value in values:
            yield whole[:at] + (value % (1 << 8 * width)).to_bytes(width, "little") + whole[at + width :], REFUSED
    for at in gguf_axes(whole):
        yield whole[:at] + bytes(8) + whole[at + 8 :], NOTED
    for kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0):
        for tensors in not_finite(rng, np.float32):
            tensors = {name: values if values.shape[1] == 32 else values.reshape(48, 32) for name, values in tensors.items()}
            yield gguf_bytes(tensors, mark.parent, kind), NOTED


def gguf_fields(whole: bytes) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Where the numbers of a header stand, their widths, and values that make the file wrong. The one key is a text."""
    yield 4, 4, (0, 1, 4, 99, 3 << 24)
    (tensors,) = struct.unpack_from("<Q", whole, 8)
    yield 8, 8, (tensors + 1, 2**20, 2**40, 2**63, -1)
    yield 16, 8, (0, 2, 2**16, 2**40, -1)
    (key,) = struct.unpack_from("<Q", whole, 24)
    yield 24, 8, (0, key + 9, 2**20, 2**63, -1)
    at = 32 + key
    yield at, 4, (13, 99, -1, 9)
    (text,) = struct.unpack_from("<Q", whole, at + 4)
    yield at + 4, 8, (text + 7, 2**30, 2**63, -1)
    at += 12 + text
    for _ in range(tensors):
        (name,) = struct.unpack_from("<Q", whole, at)
        yield at, 8, (0, name + 5, 2**20, 2**62, -1)
        at += 8 + name
        yield at, 4, (0, 5, 9, -1)
        yield at + 4, 8, (2**20, 2**40, 2**63, -1)
        yield at + 12, 8, (2**20, 2**40, 2**63, -1)
        yield at + 20, 4, (4, 5, 31, 99, -1)
        yield at + 24, 8, (1, 33, 2**40, 2**62, -32)
        at += 32


def gguf_axes(whole: bytes) -> list[int]:
    """Where the lengths of the tensors' axes stand: a tensor without a number is written by some converters."""
    return [at for at, _, values in gguf_fields(whole) if values == (2**20, 2**40, 2**63, -1)]


def tflite_bytes(tensors: Tensors, lies: dict[str, Any] | None = None) -> bytes:
    """A model of constants alone. `lies`: name -> a shape, scales, a number of a type or of a buffer other than the true one."""
    b, lies = flatbuffers.Builder(0), lies or {}
    made, buffers = [], []
    for number, (name, values) in enumerate(tensors.items()):
        said = lies.get(name, {})
        data = b.CreateByteVector(values.tobytes())
        tflite.BufferStart(b)
        tflite.BufferAddData(b, data)
        buffers.append(tflite.BufferEnd(b))
        shape, label = b.CreateNumpyVector(np.array(said.get("shape", values.shape), np.int32)), b.CreateString(name)
        scale, quantised = b.CreateNumpyVector(np.array(said.get("scale", [1.0]), np.float32)), None
        if "scale" in said:
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            quantised = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, said.get("type", {4: 0, 2: 1, 1: 9}[values.itemsize]))
        tflite.TensorAddBuffer(b, said.get("buffer", number))
        tflite.TensorAddName(b, label)
        if quantised is not None:
            tflite.TensorAddQuantization(b, quantised)
        made.append(tflite.TensorEnd(b))
    held = []
    for start, items in ((tflite.SubGraphStartTensorsVector, made), (tflite.ModelStartBuffersVector, buffers)):
        start(b, len(items))
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        held.append(b.EndVector())
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, held[0])
    graph = tflite.SubGraphEnd(b)
    tflite.ModelStartSubgraphsVector(b, 1)
    b.PrependUOffsetTRelative(graph)
    graphs = b.EndVector()
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, held[1])
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def tflite_files(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """Files: cut, with shapes, types, buffers and scales that do not fit, without their mark, with bad numbers."""
    whole = tflite_bytes(sound())
    yield from cut(whole, rng)
    for name in sound():
        for shape in ((48, 33), (47, 32), (48,), (1,) * 9, (-48, -32), (2**31 - 1, 2**31 - 1), (2**30, 48, 32), (49, 32)):
            yield tflite_bytes(sound(), {name: {"shape": shape}}), REFUSED
        for kind in (1, 10):
            yield tflite_bytes(sound(), {name: {"type": kind}}), REFUSED
        for buffer in (6, 7, 2**20, 2**32 - 1):
            yield tflite_bytes(sound(), {name: {"buffer": buffer}}), REFUSED
    whole_numbers = {name: np.ones(values.shape, np.int8) for name, values in sound().items()}
    for name in whole_numbers:
        for scale in ([1.0] * 7, [np.nan], [np.inf], [1.0] * 2):
            yield tflite_bytes(whole_numbers, {other: {"scale": scale if other == name else [0.1]} for other in whole_numbers}), REFUSED
    for at in range(4, 8):
        yield whole[:at] + b"?" + whole[at + 1 :], REFUSED
    for dtype in (np.float32, np.float16):
        for tensors in not_finite(rng, dtype):
            yield tflite_bytes(tensors), NOTED


def onnx_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What hostile_graphs.py makes of sound weights as ONNX."""
    cuts = cut(onnx_model(sound()).SerializeToString(), rng)
    yield from onnx_files(sound(), not_finite(rng, np.float32), cuts)


def ct2_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What hostile_graphs.py makes of sound weights as CTranslate2."""
    cuts = cut(ct2_bytes(ct2_names(sound())), rng)
    yield from ct2_files(sound(), not_finite(rng, np.float32), cuts, rng)


def keras_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What newer.py makes of sound weights as Keras."""
    yield from newer.keras_files(sound(), not_finite(rng, np.float32), cut(written.keras_bytes(sound()), rng), rng)


def flax_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What newer.py makes of sound weights as Flax."""
    yield from newer.flax_files(sound(), not_finite(rng, np.float32), cut(written.flax_bytes(sound()), rng), rng)


def paddle_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What newer.py makes of sound weights as Paddle, and calling pickles."""
    calls = (calling(name, mark, 4) for name in CALLS)
    yield from newer.paddle_files(sound(), not_finite(rng, np.float32), cut(written.paddle_pickle(sound()), rng), calls, rng)


def whisper_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What newer.py makes of sound weights as whisper.cpp."""
    yield from newer.whisper_files(sound(), not_finite(rng, np.float32), cut(written.whisper_bytes(sound()), rng), rng)


def nemo_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What newer.py makes of a checkpoint as NeMo, and calling ones."""
    checkpoint = torch_bytes(as_torch(sound()), legacy=False)
    cuts = cut(written.nemo_bytes(checkpoint), rng)
    calls = (with_pickle(calling(name, mark), {}) for name in CALLS)
    bad = (torch_bytes(as_torch(tensors), legacy=False) for tensors in not_finite(rng, np.float32))
    yield from newer.nemo_files(checkpoint, bad, cuts, calls, rng)


def distributed_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What newer.py makes of sound weights as torch.distributed, and calling metadata."""
    bad = map(written.distributed_files, not_finite(rng, np.float32))
    yield from newer.distributed_folders(written.distributed_files(sound()), bad, (calling(name, mark, 4) for name in CALLS), rng)


def coreml_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What newer.py makes of sound weights as CoreML."""
    yield from newer.coreml_folders(sound(), not_finite(rng, np.float32), rng)


def openvino_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What newer.py makes of sound weights as OpenVINO."""
    yield from newer.openvino_cases(sound(), not_finite(rng, np.float32), rng)


def orbax_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What latest.py makes of sound weights as Orbax."""
    yield from latest.orbax_folders(sound(), not_finite(rng, np.float32), rng)


def tensorflow_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What latest.py makes of sound weights as TensorFlow."""
    yield from latest.tensorflow_folders(sound(), not_finite(rng, np.float32), rng)


def litertlm_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What latest.py makes of sound weights as LiteRT-LM."""
    yield from latest.litertlm_files(tflite_bytes(sound()), map(tflite_bytes, not_finite(rng, np.float32)), rng)


def executorch_cases(rng: random.Random, mark: Path) -> Iterator[tuple[bytes, str]]:
    """What latest.py makes of sound weights as ExecuTorch."""
    yield from latest.executorch_files(sound(), not_finite(rng, np.float32), rng)


def spacy_cases(rng: random.Random, mark: Path) -> Iterator[tuple[newer.Files, str]]:
    """What latest.py makes of sound weights as spaCy."""
    yield from latest.spacy_folders(sound(), not_finite(rng, np.float32), rng)


MAKERS: dict[str, tuple[str, Make]] = {
    "PyTorch zip": (".pt", torch_zip),
    "PyTorch legacy": (".bin", torch_legacy),
    "NumPy": (".npz", numpy_archives),
    "GGUF": (".gguf", gguf_files),
    "TFLite": (".tflite", tflite_files),
    "ONNX": (".onnx", onnx_cases),
    "CTranslate2": (".bin", ct2_cases),
    "Keras": (".h5", keras_cases),
    "Flax": (".msgpack", flax_cases),
    "Paddle": (".pdparams", paddle_cases),
    "whisper.cpp": (".bin", whisper_cases),
    "NeMo": (".nemo", nemo_cases),
    "PyTorch distributed": ("", distributed_cases),
    "CoreML": (".mlpackage", coreml_cases),
    "OpenVINO": ("", openvino_cases),
    "Orbax": ("", orbax_cases),
    "TensorFlow": ("", tensorflow_cases),
    "LiteRT-LM": (".litertlm", litertlm_cases),
    "ExecuTorch": (".pte", executorch_cases),
    "spaCy": ("", spacy_cases),
}


NEWEST = ("Orbax", "TensorFlow", "LiteRT-LM", "ExecuTorch", "spaCy")  # the cases of latest.py


def write_cases(folder: Path, mark: Path, seed: int, kinds: Collection[str] = tuple(MAKERS)) -> Iterator[tuple[str, Path, str]]:
    """Write all of them, or those of some kinds, below `folder`: kind, path, and what has to become of it."""
    for kind in kinds:
        suffix, maker = MAKERS[kind]
        within = folder / kind.replace(" ", "-").lower()
        within.mkdir()
        for number, (content, outcome) in enumerate(maker(random.Random(seed), mark)):
            path = within / f"{kind.replace(' ', '-').lower()}-{number:03}{suffix}"
            place(path, content)
            yield kind, path, outcome


def place(path: Path, content: Content) -> Path:
    """Writes a file, or a folder of files."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return path
    path.mkdir()
    for name, data in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
