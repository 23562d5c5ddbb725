"""ONNX models: weights out of the graph, oriented, named and dequantised as the graph says. Nothing of the graph is run.

graph.py    the file -> constants and nodes      ports.py      what uses a constant, which way round, and its name
scales.py   whole numbers with their scales      recurrent.py  LSTM and GRU weights, as PyTorch keeps them
blocks.py   numbers of a few bits in blocks      small.py      values of small constants
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod

from modelkin_indexer.errors import UnsupportedFormat
from modelkin_indexer.results.beside import SourceFile
from modelkin_indexer.source import Unread
from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node, read_graph
from modelkin_indexer.sources.onnx.ports import QUANTISED_LSTM, RECURRENT, Names, Use, use_of
from modelkin_indexer.sources.onnx.recurrent import recurrent_tensors, unquantised_tensors
from modelkin_indexer.sources.onnx.scales import EXPERTS, Found, ScaleFinder
from modelkin_indexer.sources.onnx.small import Numbers
from modelkin_indexer.sources.register import Weights
from modelkin_indexer.sources.stored.decoded import DecodedSource, Origin
from modelkin_indexer.sources.stored.extents import OpenFiles, StoredTensor
from modelkin_indexer.sources.stored.files import PICK, read_config

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
WHOLE = ("I8", "U8", "I16", "U16", "I4", "U4", "I2", "U2", "F4")  # weights if there are many; wider ones are shapes and indices
PLAIN = "Index a copy with float weights, or one that is quantised in a form that docs/method.md names."
MANY = 64  # smaller constants of whole numbers are no weights, whatever they are for


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
        if not presented and tensors.unread():
            what = ", ".join(kind for kind, _ in tensors.unread()[:5])
            raise UnsupportedFormat(f"holds nothing but weights that are not read ({what})", path=weights.path, remedy=PLAIN)
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
        self._numbers = Numbers(graph, files)
        self._finder = ScaleFinder(graph, self._numbers)
        self._kinds: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._unread: Counter[str] = Counter()
        for what, size in graph.unread:
            self._unread[what] += size

    def all(self) -> Iterator[StoredTensor]:
        """All weights, by the order of the nodes that use them, so that lost names are numbered in that order."""
        uses = {constant.value: use_of(self._graph, constant) for constant in self._graph.constants.values()}
        by_use = sorted(self._graph.constants.values(), key=lambda constant: _position(uses[constant.value], constant))
        scaled = {constant.value: self._finder.scales(constant, uses[constant.value]) for constant in by_use}
        for node in self._graph.nodes:
            self._finder.use(node, *EXPERTS.get(node.op, ()))
            if node.op in RECURRENT:
                yield from recurrent_tensors(self._graph, node, self._names)
            elif node.op == QUANTISED_LSTM:
                yield from self._unquantised(node)
        for constant in by_use:
            use, found = uses[constant.value], scaled[constant.value]
            if self._is_recurrent(constant, use):
                continue
            if found is not None:
                yield self._scaled(constant, use, found)
            elif constant.dtype in FLOATS and not self._finder.is_used(constant) and (use.node is not None or prod(constant.shape) > 1):
                yield self._plain(constant, use)
            else:
                self._leave_out(constant, use)

    def _unquantised(self, node: Node) -> Iterator[StoredTensor]:
        """An LSTM of whole numbers."""
        made = list(unquantised_tensors(self._numbers, node, self._names))
        self._finder.use(node, *((1, 2) if made else ()), *range(8, 12))
        if made:
            self._kinds["8 bit"] += len(made)
        yield from made

    def _is_recurrent(self, constant: Constant, use: Use) -> bool:
        """Whether a constant was presented with its recurrent node."""
        is_taken = use.node is not None and use.node.op in (*RECURRENT, QUANTISED_LSTM) and use.port is None
        return is_taken and (constant.dtype in FLOATS or self._finder.is_used(constant))

    def _scaled(self, constant: Constant, use: Use, found: Found) -> StoredTensor:
        self._kinds[f"{found.scales.bits} bit"] += 1
        name = self._names.of(constant, use)
        return StoredTensor(name, constant.dtype, found.shown, (constant.extent,), found.scales, found.transposed)

    def _leave_out(self, constant: Constant, use: Use) -> None:
        """Constants that could be weights count as unread: whole numbers in plenty that are neither indices nor scales."""
        self._left_out[constant.dtype] += 1
        if constant.dtype in WHOLE and prod(constant.shape) >= MANY and not self._finder.is_used(constant):
            users = [use.node] if use.node is not None else [node for node, _ in self._graph.users.get(constant.value, ())]
            op = users[0].op if users else "no operator"
            self._unread[f"ONNX, {constant.dtype} of {op}"] += constant.extent.length

    def unread(self) -> Unread:
        """What could be weights and is not read, by kind, with its bytes."""
        return tuple(sorted(self._unread.items()))

    def notes(self) -> tuple[str, ...]:
        """What was left out, for a person to know."""
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in sorted(self._left_out.items()))
        notes = [f"Constants of the graph that are no weights were left out: {kinds}."] if kinds else []
        if self._unread:
            notes.append(f"Weights that are not read: {', '.join(sorted(self._unread)[:5])}.")
        return tuple(notes)

    def quantization(self) -> str:
        """How most quantised weights are stored."""
        return f"ONNX {self._kinds.most_common(1)[0][0]}" if self._kinds else ""

    def _plain(self, constant: Constant, use: Use) -> StoredTensor:
        turned = use.turned and len(constant.shape) == 2
        shape = constant.shape[::-1] if turned else constant.shape or (1,)
        return StoredTensor(self._names.of(constant, use), constant.dtype, shape, (constant.extent,), None, turned)


def _position(use: Use, constant: Constant) -> tuple[bool, int, int, int]:
    return use.node is None, use.node.order if use.node else 0, use.index, constant.order
