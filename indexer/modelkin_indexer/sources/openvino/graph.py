"""OpenVINO's graph out of its XML: constants, what uses them, and where their bytes lie. Nothing of the graph is run.

Documents that declare a type or entities are refused; elements are taken as they come, and nothing is kept of those that say nothing here.
https://docs.openvino.ai/2025/documentation/openvino-ir-format/operation-sets.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

from msgspec import Struct, field

from modelkin_indexer.errors import DamagedFile, UnsupportedFormat
from modelkin_indexer.sources.stored.files import FETCH_AGAIN, read_exact

EXPORT_AGAIN = "Export the model again with openvino.save_model."
MAX_XML = 64_000_000  # bytes; the graphs of the largest public models have 20 MB
MAX_LAYERS = 500_000
MAX_AXES = 8
MAX_NAME = 1000
PIECE = 1 << 20
KEPT = ("element_type", "shape", "offset", "size", "transpose_a", "transpose_b", "destination_type", "hidden_size")
# Words of element types: safetensors' word, or that of `stored.scales`.
DTYPES = {
    **{"f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8"},
    **{"u64": "U64", "u32": "U32", "u16": "U16", "u8": "U8", "i4": "I4", "u4": "U4", "u2": "U2", "nf4": "LOW_NF4", "f4e2m1": "F4"},
    **{"f8e4m3": "F8_E4M3", "f8e5m2": "F8_E5M2", "f8e8m0": "F8_E8M0", "boolean": "BOOL"},
}


class Constant(Struct, frozen=True):
    """A constant: bytes [offset, offset + size) of the file beside. `dtype` is the file's own word where no other is known."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class Layer(Struct):
    """One operation; `inputs`: port -> number of the layer that feeds it; `users`: (number of a layer, its port)."""

    number: int
    name: str
    op: str
    data: Mapping[str, str] = field(default_factory=dict)
    inputs: dict[int, int] = field(default_factory=dict)
    users: list[tuple[int, int]] = field(default_factory=list)
    constant: Constant | None = None


Graph = dict[int, Layer]


def read_graphs(descriptor: int, size: int, path: Path) -> list[Graph]:
    """The graph and those of its loops and branches, the outer one first.

    Raises:
        SourceError: no sound XML, a document with entities, or no graph of OpenVINO.
    """
    if size > MAX_XML:
        raise UnsupportedFormat(f"has {size:,} bytes, more than {MAX_XML:,}", path=path, remedy=EXPORT_AGAIN)
    taker = _Taker(path)
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = taker.start, taker.end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = taker.refuse
    parser.buffer_text = False
    try:
        for start in range(0, size, PIECE):
            parser.Parse(bytes(read_exact(descriptor, start, min(PIECE, size - start), path)), False)
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, KeyError, OverflowError) as error:
        raise DamagedFile(f"is no sound graph ({str(error)[:200]})", path=path, remedy=FETCH_AGAIN) from error
    if not taker.graphs:
        raise UnsupportedFormat("is XML, but no graph of OpenVINO", path=path, remedy=EXPORT_AGAIN)
    return taker.graphs


class _Taker:
    """Takes the elements of the document."""

    def __init__(self, path: Path) -> None:
        self._path, self._stack = path, list[tuple[str, Graph | None]]()
        self._layers: list[Layer] = []
        self._count = 0
        self.graphs: list[Graph] = []

    def refuse(self, *_: object) -> None:
        raise UnsupportedFormat("declares a document type or entities", path=self._path, remedy=EXPORT_AGAIN)

    def start(self, name: str, said: dict[str, str]) -> None:
        if not self._stack and name != "net":
            raise UnsupportedFormat(f"is XML with {name[:50]!r}, not a graph of OpenVINO", path=self._path, remedy=EXPORT_AGAIN)
        graph: Graph | None = None
        if name in ("net", "body", "then_body", "else_body"):
            graph = {}
            self.graphs.append(graph)
        elif name == "layer":
            self._layer(said)
        elif name == "data" and self._layers and self._stack[-1][0] == "layer":
            self._data(self._layers[-1], said)
        elif name == "edge":
            self._edge(said)
        self._stack.append((name, graph))
        if len(self._stack) > 100:
            raise ValueError("nested too deeply")

    def end(self, name: str) -> None:
        self._stack.pop()
        if name == "layer":
            layer = self._layers.pop()
            if layer.op == "Const" and layer.constant is None:
                raise ValueError(f"the constant {layer.number} without its data")

    def _graph(self) -> Graph:
        return next(graph for _, graph in reversed(self._stack) if graph is not None)

    def _layer(self, said: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_LAYERS:
            raise ValueError("too many layers")
        number = int(said["id"])
        label = "".join(letter if letter.isprintable() else "?" for letter in said.get("name", ""))[:MAX_NAME]
        layer = Layer(number, label, said.get("type", ""))
        if number in self._graph():
            raise ValueError(f"layer {number} is there twice")
        self._graph()[number] = layer
        self._layers.append(layer)

    def _data(self, layer: Layer, said: dict[str, str]) -> None:
        layer.data = {key: said[key] for key in KEPT if key in said}
        if layer.op == "Const":
            shape = tuple(int(part) for part in said.get("shape", "").split(",") if part.strip())
            if len(shape) > MAX_AXES or not all(0 <= n < 1 << 40 for n in shape):
                raise ValueError(f"the impossible shape {list(shape)}")
            kind = said["element_type"]
            layer.constant = Constant(DTYPES.get(kind, kind[:20]), shape, int(said["offset"]), int(said["size"]))

    def _edge(self, said: dict[str, str]) -> None:
        graph = self._graph()
        source, target, port = int(said["from-layer"]), int(said["to-layer"]), int(said["to-port"])
        if source not in graph or target not in graph:
            raise ValueError("an edge of a layer that is not there")
        graph[target].inputs[port] = source
        graph[source].users.append((target, port))
