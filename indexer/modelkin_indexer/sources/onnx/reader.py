"""ONNX models: weights out of the graph, oriented, named and dequantised as the graph says. Nothing of the graph is run.

onnx_graph.py   the file -> constants and nodes          onnx_ports.py   what uses a constant, which way round, and its name
onnx_scales.py  whole numbers with their scales          onnx_recurrent.py  LSTM and GRU weights, as PyTorch keeps them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Unread
from modelkin_indexer.sources.onnx.graph import Constant, Graph, read_graph
from modelkin_indexer.sources.onnx.ports import RECURRENT, Names, Use, use_of
from modelkin_indexer.sources.onnx.recurrent import recurrent_tensors
from modelkin_indexer.sources.onnx.scales import QUANTISED, ScaleFinder
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import PICK, read_config

PACKED = ("I8", "U8", "I4", "U4", "I16", "U16")  # of whole numbers that quantisers use; wider ones are shapes and indices
FEW = 64  # numbers that are no weights
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def open_weights(weights: Weights) -> DecodedSource:
    """Open one ONNX model. Raises SourceError."""
    if len(weights.files) != 1:
        raise UnsupportedFormat("is made of shards", path=weights.path, remedy=f"ONNX models are one file; {PICK}")
    files = OpenFiles()
    try:
        graph = read_graph(weights.files[0], files)
        tensors = _Tensors(graph, files)
        stored = list(tensors.all())
        presented = {tensor.name: tensor.presented(files) for tensor in stored}
        config, notes = read_config(weights.files[0].parent)
        sizes = zip(files.paths, files.sizes, strict=True)
        header = files.sizes[0] - sum(part.length for tensor in stored for part in tensor.parts if not part.file and part.held is None)
        origin = Origin(
            weights.path,
            weights.name,
            tuple(SourceFile(path.name, size) for path, size in sizes),
            config,
            (*weights.notes, *tensors.notes(), *notes),
            tensors.quantization(),
            max(header, 0),
            unread=tensors.unread(),
        )
        return DecodedSource(origin, presented, files.close)
    except BaseException:
        files.close()
        raise


class _Tensors:
    """The weights among a graph's constants."""

    def __init__(self, graph: Graph, files: OpenFiles) -> None:
        self._graph, self._names = graph, Names(graph)
        self._finder = ScaleFinder(graph, files)
        self._kinds: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()

    def all(self) -> Iterator[StoredTensor]:
        """All weights, by the order of the nodes that use them, so that lost names are numbered in that order."""
        uses = {constant.value: use_of(self._graph, constant) for constant in self._graph.constants.values()}
        by_use = sorted(self._graph.constants.values(), key=lambda constant: _position(uses[constant.value], constant))
        scaled = {constant.value: self._finder.scales(constant, uses[constant.value]) for constant in by_use if constant.dtype in QUANTISED}
        recurrent = {node.order: node for node in self._graph.nodes if node.op in RECURRENT}
        for node in recurrent.values():
            yield from recurrent_tensors(self._graph, node, self._names)
        for constant in by_use:
            use = uses[constant.value]
            if use.node is not None and use.node.op in RECURRENT and constant.dtype in FLOATS and use.port is None:
                continue
            scales = scaled.get(constant.value)
            if constant.dtype in FLOATS and not self._finder.is_used(constant) and (use.node is not None or constant.extent.length > 8):
                yield self._plain(constant, use)
            elif scales is not None:
                self._kinds[f"{scales.scales.bits} bit"] += 1
                name = self._names.of(constant, use)
                yield StoredTensor(name, constant.dtype, scales.shown, (constant.extent,), scales.scales, scales.transposed)
            else:
                self._left_out[constant.dtype] += 1
                if constant.dtype in PACKED and prod(constant.shape) > FEW:
                    taken = f" taken by {use.node.op}" if use.node is not None else ""
                    self._unread[f"ONNX constants of {constant.dtype} whose scales are not found{taken}"] += constant.extent.length

    def notes(self) -> tuple[str, ...]:
        """What was left out, for a person to know."""
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self._left_out.items()))
        notes = [f"Constants of the graph that are no weights were left out: {kinds}."] if kinds else []
        if self._graph.unread:
            unread = ", ".join(self._graph.unread[:5])
            notes.append(f"{len(self._graph.unread)} constants are of types that are not read and were left out: {unread}.")
        return tuple(notes)

    def unread(self) -> Unread:
        """What may be weights and was left out, with its bytes."""
        return tuple(sorted(self._unread.items()))

    def quantization(self) -> str:
        """How most quantised weights are stored."""
        return f"ONNX {self._kinds.most_common(1)[0][0]}" if self._kinds else ""

    def _plain(self, constant: Constant, use: Use) -> StoredTensor:
        turned = use.turned and len(constant.shape) == 2
        shape = constant.shape[::-1] if turned else constant.shape or (1,)
        return StoredTensor(self._names.of(constant, use), constant.dtype, shape, (constant.extent,), None, turned)


def _position(use: Use, constant: Constant) -> tuple[bool, int, int, int]:
    return use.node is None, use.node.order if use.node else 0, use.index, constant.order
