"""LSTM, GRU and RNN weights of ONNX under the names and in the order of gates that PyTorch keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from modelkin_indexer.source import BITS
from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node
from modelkin_indexer.sources.onnx.ports import LOST, Names
from modelkin_indexer.sources.stored.extents import StoredTensor

# Which of ONNX' gates stands first, second, ... in PyTorch: i o f c -> i f c o, z r h -> r z h.
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
LAYER = re.compile(r"(?:LSTM|GRU|RNN)_(\d{1,2})$")  # the second layer's node of a module is called LSTM_1


def recurrent_tensors(graph: Graph, node: Node, names: Names) -> Iterator[StoredTensor]:
    """The weights and biases of one node; those whose shapes do not fit the node's kind are left as they are."""
    module = names.module(node) or _module_of_names(graph, node) or f"{node.op.lower()}.{node.order}"
    found = LAYER.search(node.name)
    layer = found[1] if found else "0"
    for index, kinds in ((1, ("weight_ih",)), (2, ("weight_hh",)), (3, ("bias_ih", "bias_hh"))):
        constant = _constant(graph, node.inputs[index] if index < len(node.inputs) else "")
        if constant is None:
            continue
        gates, parts = len(GATES[node.op]), len(kinds)
        axes = 3 if index < 3 else 2
        if len(constant.shape) != axes or constant.shape[0] not in (1, 2) or constant.shape[1] % (gates * parts):
            yield StoredTensor(names.free(f"{module}.{constant.name}"), constant.dtype, constant.shape, (constant.extent,))
            continue
        for direction in range(constant.shape[0]):
            for number, kind in enumerate(kinds):
                name = names.free(f"{constant.branch}{module}.{kind}_l{layer}{'_reverse' if direction else ''}")
                yield _tensor(constant, name, node.op, direction * parts + number, constant.shape[0] * parts)


def _constant(graph: Graph, value: str) -> Constant | None:
    constant = graph.constants.get(value)
    return constant if constant is not None and constant.dtype in ("F64", "F32", "F16", "BF16") else None


def _tensor(constant: Constant, name: str, kind: str, part: int, parts: int) -> StoredTensor:
    """One of `parts` equal parts of a constant, its gates in PyTorch's order."""
    order = GATES[kind]
    rows = constant.shape[1] * constant.shape[0] // parts
    shape = (rows, *constant.shape[2:])
    size = constant.extent.length // (parts * len(order))
    width = BITS[constant.dtype] // 8
    size -= size % width
    extents = tuple(
        replace(constant.extent, start=constant.extent.start + (part * len(order) + gate) * size, length=size) for gate in order
    )
    return StoredTensor(name, constant.dtype, shape, extents)


def _module_of_names(graph: Graph, node: Node) -> str:
    """By the name of one of the weights, where an exporter kept it."""
    names = [constant.name for value in node.inputs[1:4] if (constant := graph.constants.get(value)) is not None]
    return next((name.rpartition(".")[0] for name in names if not LOST.fullmatch(name) and "." in name), "")
