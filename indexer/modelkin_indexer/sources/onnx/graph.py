"""ONNX graphs as plain values: constants and where they lie, nodes and what they read. The only module that imports `onnx`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from msgspec import Struct, field
from onnx import numpy_helper

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.sources.onnx.protobuf import POINTER, Bulk, Schema, outline
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles
from modelkin_indexer.sources.stored.files import FETCH_AGAIN

# onnx.proto: the messages on the way to tensors, and the fields of a tensor that hold little-endian numbers as they are in memory.
SCHEMA: Schema = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 11: "graph"},
    "tensor": {4: Bulk(9), 9: Bulk(9), 10: Bulk(9)},
}
DTYPES = {
    "FLOAT": "F32",
    "DOUBLE": "F64",
    "FLOAT16": "F16",
    "BFLOAT16": "BF16",
    "FLOAT8E4M3FN": "F8_E4M3",
    "FLOAT8E5M2": "F8_E5M2",
    "INT8": "I8",
    "UINT8": "U8",
    "INT16": "I16",
    "UINT16": "U16",
    "INT32": "I32",
    "UINT32": "U32",
    "INT64": "I64",
    "UINT64": "U64",
    "BOOL": "BOOL",
    "INT4": "I4",
    "UINT4": "U4",
    "INT2": "I2",
    "UINT2": "U2",
    "FLOAT4E2M1": "F4",
    "FLOAT8E8M0": "F8_E8M0",
}
PARTS_OF_BYTES = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2, "FLOAT4E2M1": 4}
# Types that are not read, in bits; all others are unknown.
OTHER_BITS = {"FLOAT8E4M3FNUZ": 8, "FLOAT8E5M2FNUZ": 8, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6, "COMPLEX64": 64, "COMPLEX128": 128}
WHOLE_ATTRIBUTES = (onnx.AttributeProto.INT, onnx.AttributeProto.INTS)
MAX_AXES = 8
# What merging graphs puts before the names of a branch's values.
BRANCH = re.compile(r"^(?:\w*?_(?:then|else)_branch__)?(?:Inline_\d+__)*")


class Constant(Struct, frozen=True):
    """A tensor that the file gives. `value` is unique; `name` is what the file calls it; `order` counts all constants."""

    value: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    extent: Extent
    branch: str
    order: int


class Node(Struct, frozen=True):
    """One operator. `numbers` are its attributes that are whole numbers or lists of them; `scope` names the module it came from."""

    op: str
    name: str
    scope: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]]
    order: int

    def number(self, name: str, default: int) -> int:
        """An attribute of one whole number."""
        return next(iter(self.numbers.get(name, ())), default)


class Graph(Struct):
    """All nodes and constants of a model, those of branches too, with `users` (node, number of the input) and the maker of each value.

    `unread`: constants of types that are not read, by kind, with their bytes.
    """

    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    users: dict[str, list[tuple[Node, int]]] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)
    unread: list[tuple[str, int]] = field(default_factory=list)


def read_graph(path: Path, files: OpenFiles) -> Graph:
    """The graph of an ONNX file, opened as the first of `files`; files with external data are opened too.

    Raises:
        SourceError: it is damaged, too large beside its weights, or has weights that cannot be read.
    """
    number = files.open(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(outline(files.descriptor(number), path, SCHEMA, "model"))
    except DecodeError as error:
        raise DamagedFile(f"is no ONNX model ({error})", path=path, remedy=FETCH_AGAIN) from error
    reader = _Reader(path, number, files)
    reader.take(model.graph, (), "")
    return reader.graph


class _Reader:
    def __init__(self, path: Path, number: int, files: OpenFiles) -> None:
        self.graph = Graph()
        self._path, self._number, self._files = path, number, files

    def take(self, graph: Any, around: tuple[dict[str, str], ...], branch: str) -> None:
        """Nodes and constants of a graph; `around` are the names that the graphs around it define."""
        here: dict[str, str] = {}
        scopes = (here, *around)
        self._check_names(graph)
        for tensor in graph.initializer:
            self._constant(tensor, tensor.name, here, branch)
        for sparse in graph.sparse_initializer:
            self._unread("sparse", sparse.values, 64 + OTHER_BITS.get(_kind(sparse.values), 32))
        for given in graph.input:
            self._define(given.name, here)
        for node in graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
            if value is not None and len(node.output) == 1:
                self._constant(value, node.output[0], here, branch)
            else:
                self._node(node, here, scopes)
            for attribute in node.attribute:
                for inner in self._graphs(attribute):
                    self.take(inner, scopes, f"{branch}{_branch(attribute.name)}")

    def _check_names(self, graph: Any) -> None:
        """The parser gives bytes for text that is not UTF-8."""
        names = [graph.name, *(tensor.name for tensor in graph.initializer), *(given.name for given in graph.input)]
        for node in graph.node:
            metadata = [text for entry in node.metadata_props for text in (entry.key, entry.value)]
            names += [node.name, node.op_type, *node.input, *node.output, *metadata, *(a.name for a in node.attribute)]
        if not all(isinstance(name, str) for name in names):
            raise DamagedFile("has names that are not UTF-8", path=self._path, remedy=FETCH_AGAIN)

    def _graphs(self, attribute: Any) -> Iterator[Any]:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs

    def _define(self, name: str, here: dict[str, str]) -> str:
        if name not in here:
            here[name] = f"{len(self.graph.constants)}.{len(self.graph.nodes)}.{name}"
        return here[name]

    def _node(self, node: Any, here: dict[str, str], scopes: tuple[dict[str, str], ...]) -> None:
        inputs = tuple(next((scope[name] for scope in scopes if name in scope), "") for name in node.input)
        numbers = {a.name: tuple(a.ints) or (a.i,) for a in node.attribute if a.type in WHOLE_ATTRIBUTES}
        made = Node(
            node.op_type,
            BRANCH.sub("", node.name),
            next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), ""),
            inputs,
            tuple(self._define(name, here) for name in node.output),
            numbers,
            len(self.graph.nodes),
        )
        self.graph.nodes.append(made)
        for index, value in enumerate(inputs):
            self.graph.users.setdefault(value, []).append((made, index))
        self.graph.makers |= dict.fromkeys(made.outputs, made)

    def _constant(self, tensor: Any, name: str, here: dict[str, str], branch: str) -> None:
        shape = tuple(tensor.dims)
        if len(shape) > MAX_AXES or any(axis < 0 for axis in shape):
            raise DamagedFile(f"has the impossible shape {list(shape)[:9]}", path=self._path, tensor=name, remedy=FETCH_AGAIN)
        value = here[name] = f"{len(self.graph.constants)}.{len(self.graph.nodes)}.{name}"
        kind = _kind(tensor)
        if kind not in DTYPES:
            self._unread(kind, tensor, OTHER_BITS.get(kind, 0))
            return
        extent = self._extent(tensor, name)
        plain = BRANCH.sub("", name)
        self.graph.constants[value] = Constant(value, plain, DTYPES[kind], shape, extent, branch, len(self.graph.constants))

    def _unread(self, kind: str, tensor: Any, bits: int) -> None:
        """Count a constant that is not read: numbers of so many bits, or text, which is none."""
        if kind != "STRING":
            self.graph.unread.append((f"ONNX, {kind.lower()} constants", max(1, prod(tensor.dims) * bits // 8)))

    def _extent(self, tensor: Any, name: str) -> Extent:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return self._external(tensor, name)
        if tensor.raw_data:
            start, length = POINTER.unpack(tensor.raw_data)
            return self._files.extent(self._number, start, length, name)
        try:
            values = np.ascontiguousarray(numpy_helper.to_array(tensor))
            bits = PARTS_OF_BYTES.get(_kind(tensor))
            held = packed(values, bits) if bits else values.tobytes()
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedFile(f"cannot be decoded ({error})", path=self._path, tensor=name, remedy=FETCH_AGAIN) from error
        return Extent(self._number, 0, len(held), held)

    def _external(self, tensor: Any, name: str) -> Extent:
        """A tensor in a file of its own, beside the model: nothing that could lead out of the folder."""
        said = {str(entry.key): str(entry.value) for entry in tensor.external_data}
        location = said.get("location", "").removeprefix("./")
        if location in ("", ".", "..") or any(mark in location for mark in "/\\\0"):
            problem = f"is said to be in {location[:200]!r}, which is not the plain name of a file beside the model"
            raise DamagedFile(problem, path=self._path, tensor=name, remedy="Do not trust this model; get it from its publisher.")
        number = self._files.open(self._path.parent / location)
        start = _natural(said.get("offset", "0"))
        length = _natural(said["length"]) if "length" in said else self._files.sizes[number] - start
        return self._files.extent(number, start, length, name)


def _kind(tensor: Any) -> str:
    known = onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(tensor.data_type)) if tensor.data_type in known else f"type {tensor.data_type}"


def packed(values: npt.NDArray[Any], bits: int) -> bytes:
    """Numbers of a few bits, several in a byte, from the lowest bits on."""
    each = 8 // bits
    codes = np.zeros(-(-values.size // each) * each, np.uint8)
    codes[: values.size] = values.reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    return bytes(np.bitwise_or.reduce(codes.reshape(-1, each) << np.arange(0, 8, bits, dtype=np.uint8), axis=1))


def _natural(text: str) -> int:
    """A whole number written as text; -1, which fits no file, for anything else."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1


def _branch(attribute: str) -> str:
    return "" if attribute == "body" else f"{attribute}."
