"""The containers of weights that can be read. A new one is a file beside this one and a line in `CONTAINERS`; other packages add theirs
by an entry point of the group `modelkin.containers`, which is asked only of files that no container here recognises."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from modelkin_indexer import plug_ins
from modelkin_indexer.errors import SourceError, UnsupportedFormat
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored.files import open_regular, read_exact

POINTER = b"version https://git-lfs"  # how a file begins that only says where another is
HEAD_BYTES = 64  # what a container is recognised by


class Weights(Struct, frozen=True):
    """The files of one model in one container.

    `path` is what the user gave and `name` what to call the model; `files` are its files, or the shards as their names tell them;
    `index` is the shard index to go by instead.
    """

    path: Path
    name: str
    files: tuple[Path, ...]
    index: Path | None = None
    notes: tuple[str, ...] = ()


class Leaf(Protocol):
    """What the module of a container offers. Only this module imports the library that reads the container."""

    def open_weights(self, weights: Weights) -> Source:
        """Open the files. Raises SourceError."""
        ...


class Container(Struct, frozen=True):
    """One container.

    leaf       the module that opens it, imported when a file of that kind is met; of this package with a dot before its name
    suffixes   of its files; a shard index is called as the file with `.index.json` after it
    recognises whether a file may be one, by its first bytes: decides between containers that share a suffix, and where there is none
    extra      of modelkin, that brings the package which reads it; "" if that is always there
    beside     endings of files of the same stem that belong to it, its numbers or its graph
    along      names of files in its folder that belong to it
    parts      patterns of other files in its folder that belong to it; `{stem}` stands for the file's name without its suffix
    needs      one of these must be there, or the file is none of the container's
    together   all its files in a folder are one model
    whole      what of it is read whole at level probe, in words; "" where only the rows that are looked at are
    """

    name: str
    leaf: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    extra: str = ""
    beside: tuple[str, ...] = ()
    along: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    needs: bool = False
    together: bool = False
    whole: str = ""

    def companions(self, path: Path) -> tuple[Path, ...]:
        """The files that may belong to one, whether they are there or not."""
        patterns = (part.replace("{stem}", glob.escape(path.name.removesuffix(self.suffix_of(path.name)))) for part in self.parts)
        numbered = (one for pattern in patterns for one in sorted(path.parent.glob(pattern)))
        return (*(path.with_suffix(ending) for ending in self.beside), *(path.parent / name for name in self.along), *numbered)

    def open(self, weights: Weights) -> Source:
        """Open the files of one model. Raises SourceError."""
        try:
            return self._opened(weights)
        except SourceError as error:
            pointer = next((path for path in weights.files if _head(path).startswith(POINTER)), None)
            if pointer is None:
                raise
            remedy = "Fetch the files themselves: `git lfs pull`, or `hf download`."
            raise UnsupportedFormat("is a pointer of Git LFS to the file, not the file", path=pointer, remedy=remedy) from error

    def _opened(self, weights: Weights) -> Source:
        if self.leaf.startswith("."):
            return cast(Leaf, import_module(self.leaf, __package__)).open_weights(weights)
        try:
            return cast(Leaf, import_module(self.leaf)).open_weights(weights)
        except SourceError:
            raise
        except Exception as error:
            problem = f"cannot be read as {self.name} by {self.leaf.split('.')[0]}, a package of others ({type(error).__name__}: {error})"
            raise UnsupportedFormat(problem, path=weights.path, remedy="Tell its makers, or remove it.") from error

    def suffix_of(self, name: str) -> str:
        """The suffix of this container that a file name ends in, else ""."""
        small = name.lower()
        if not small.endswith(self.suffixes):
            return ""
        return next((suffix for suffix in self.suffixes if small.endswith(suffix) and len(name) > len(suffix)), "")


TURNED = "matrices stored [in, out]"  # each row that is looked at has a number in every stored one
# The most faithful first: where a folder holds the same weights in several containers, the first is read.
CONTAINERS = (
    Container("safetensors", ".safetensors.reader", (".safetensors",), lambda head: head[8:9] == b"{"),
    Container(
        "PyTorch",
        ".pytorch.reader",
        (".bin", ".pt", ".pth", ".pth.tar", ".ckpt", ".jit"),
        lambda head: head.startswith((b"PK\x03\x04", b"\x80")),
    ),
    Container(
        "torch.distributed",
        ".pytorch.distributed",
        (".distcp",),
        lambda head: head.startswith(b"PK\x03\x04"),
        along=(".metadata",),
        together=True,
    ),
    Container(
        "NumPy", ".numpy_file", (".npz", ".npy"), lambda head: head.startswith((b"\x93NUMPY", b"PK\x03\x04")), whole="compressed arrays"
    ),
    Container("GGUF", ".gguf.reader", (".gguf",), lambda head: head.startswith(b"GGUF")),
    Container("CTranslate2", ".ctranslate2.reader", (".bin",), lambda head: b"Spec\0" in head[6:38]),
    Container("whisper.cpp", ".whisper", (".bin",), lambda head: head.startswith(b"lmgg")),
    Container("ONNX", ".onnx.reader", (".onnx",), lambda head: head[:1] == b"\x08"),
    Container("TFLite", ".tflite.reader", (".tflite",), lambda head: head[4:8] == b"TFL3", whole="files on the Hub"),
    Container(
        "LiteRT-LM",
        ".tflite.bundle",
        (".litertlm", ".task"),
        lambda head: head.startswith((b"LITERTLM", b"PK\x03\x04")),
        whole="files on the Hub",
    ),
    Container(
        "ExecuTorch", ".executorch", (".ptd", ".pte"), lambda head: head[4:8] == b"FT01" or head[4:6] == b"ET", whole="files on the Hub"
    ),
    Container("NeMo", ".pytorch.nemo", (".nemo",), lambda head: b"\0" in head and head[:2] == b"./"),
    Container(
        "Flax",
        ".flax.reader",
        (".msgpack",),
        lambda head: (
            0x81 <= int.from_bytes(head[:1]) < 0x90 and 0xA0 < int.from_bytes(head[1:2]) < 0xC0
        ),  # a few names, the first a short one
        whole=TURNED,
    ),
    Container(
        "Orbax",
        ".flax.orbax",
        (".ocdbt",),
        lambda head: (
            head.startswith((b"\x0c\xdb\x3a\x2a", b'{"tree_metadata"'))
            or (head[:1] == b"{" and any(word in head for word in (b'"chunks"', b'"chunk_grid"', b'"zarr_format"')))
        ),
        extra="orbax",
        parts=("d/*", "ocdbt.process_*/d/*"),
        whole="chunks",
    ),
    Container(
        "Paddle",
        ".paddle.reader",
        (".pdparams", ".pdiparams"),
        lambda head: head.startswith((b"\x80", bytes(12))),
        beside=(".pdmodel",),
        whole=TURNED,
    ),
    Container("CoreML", ".coreml.reader", (".mlmodel",), lambda head: head[:1] == b"\x08", along=("weights/weight.bin",)),
    Container("OpenVINO", ".openvino.reader", (".xml",), lambda head: b"<net" in head, beside=(".bin",)),
    Container(
        "Keras",
        ".keras.reader",
        (".keras", ".weights.h5", ".h5", ".hdf5"),
        lambda head: head.startswith(b"\x89HDF\r\n\x1a\n") or head[30:43] == b"metadata.json",
        whole=TURNED,
    ),
    Container(
        "TensorFlow",
        ".tensorflow.reader",
        (".index",),
        lambda head: head[:2] == bytes(2) and head[3:4] == b"\x08" and b"\x1a\x02\x08" in head,
        parts=("{stem}.data-*",),
        needs=True,
        whole=TURNED,
    ),
    Container(
        "spaCy",
        ".spacy",
        (".cfg",),
        lambda head: head.startswith((b"[paths]", b"[nlp]", b"[system]")),
        parts=("*/model", "vocab/vectors"),
        needs=True,
    ),
)

# Suffixes of weights that this version does not read, known only to say what was found.
_KNOWN = ".bin .pt .pth .ckpt .jit .gguf .ggml .onnx .h5 .msgpack .npz .npy .pkl .keras .nemo"
OTHER_SUFFIXES = tuple(suffix for suffix in _KNOWN.split() if not any(suffix in container.suffixes for container in CONTAINERS))

# What else only files are called: configs, formats that other programs keep weights in, archives. Such a name is never sent anywhere.
_FILES = (
    ".7z .arrow .bz2 .caffemodel .csv .dat .data .dduf .engine .eqx .gz .joblib .json .llamafile .lz4 .mar .mat "
    ".mlpackage .mnn .model .ncnn .om .onnx_data .orbax .ort .ot .param .params .parquet .pb .pbtxt .pdmodel .pdopt "
    ".pickle .plan .prototxt .ptl .rar .rknn .t7 .tar .tensors .tgz .toml .torchscript .trt .txt .weights .xz .yaml .yml "
    ".zip .zst"
)


def others() -> tuple[Container, ...]:
    """The containers of other packages."""
    return tuple(found for found in plug_ins.loaded(plug_ins.CONTAINERS) if isinstance(found, Container))


def suffixes() -> tuple[str, ...]:
    """Every ending, in small letters, that tells a file's name: of containers, of other weights, of what lies beside them."""
    return tuple(dict.fromkeys([*weights_suffixes(), *OTHER_SUFFIXES, *_FILES.split()]))


def weights_suffixes() -> tuple[str, ...]:
    """The endings of files that can be read."""
    return tuple(dict.fromkeys(suffix for container in (*CONTAINERS, *others()) for suffix in container.suffixes))


def owner_of(name: str, names: Collection[str]) -> str:
    """The file, among `names`, whose numbers lie in the file `name` beside it; "" if that is a file of its own."""
    for container in CONTAINERS:
        for ending in container.beside:
            owners = (name.removesuffix(ending) + suffix for suffix in container.suffixes if name.endswith(ending))
            if owner := next((one for one in owners if one in names), ""):
                return owner
    return ""


def rank(container: Container) -> int:
    """Where a container stands among those of one folder: ours first, in their order."""
    return CONTAINERS.index(container) if container in CONTAINERS else len(CONTAINERS)


def container_of(path: Path) -> Container:
    """The container of a file: by its suffix, and by its first bytes where the suffix leaves a choice.

    The first one if nothing fits; of a file without any known suffix and form `is_unknown` is true.
    """
    fitting = [container for container in CONTAINERS if container.suffix_of(path.name)]
    if len(fitting) == 1:
        return fitting[0]
    head = _head(path)
    among = fitting or CONTAINERS
    known = next((container for container in among if container.recognises(head)), None)
    return known or (None if fitting else _others_of(path, head)) or among[0]


def is_unknown(path: Path) -> bool:
    """Whether neither the suffix nor the first bytes of a file are those of a container. False of an empty or unreadable file."""
    if any(container.suffix_of(path.name) for container in CONTAINERS):
        return False
    head = _head(path)
    return bool(head) and not any(container.recognises(head) for container in CONTAINERS) and _others_of(path, head) is None


def is_refused(path: Path) -> bool:
    """Whether the suffix is one of weights that neither this version nor another package reads."""
    return path.suffix.lower() in OTHER_SUFFIXES and _others_of(path, _head(path)) is None


def _others_of(path: Path, head: bytes) -> Container | None:
    """The container of another package that a file may be: one that recognises it, else one of its suffix."""
    recognising = (container for container in others() if head and container.recognises(head))
    named = (container for container in others() if container.suffix_of(path.name))
    return next(recognising, None) or next(named, None)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of a file that cannot be opened, which its container tells then."""
    try:
        descriptor = open_regular(path)
    except SourceError:
        return b""
    try:
        return bytes(read_exact(descriptor, 0, min(HEAD_BYTES, os.fstat(descriptor).st_size), path))
    finally:
        os.close(descriptor)
