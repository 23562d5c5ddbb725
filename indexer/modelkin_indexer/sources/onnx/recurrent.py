"""LSTM, GRU and RNN weights of ONNX under the names and in the order of gates that PyTorch keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from modelkin_indexer.source import BITS
from modelkin_indexer.sources.onnx.blocks import given
from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node
from modelkin_indexer.sources.onnx.ports import LOST, Names
from modelkin_indexer.sources.onnx.small import Floats, Numbers
from modelkin_indexer.sources.stored.extents import Extent, StoredTensor

# Which of ONNX' gates stands first, second, ... in PyTorch: i o f c -> i f c o, z r h -> r z h.
GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
LAYER = re.compile(r"(?:LSTM|GRU|RNN)_(\d{1,2})(?:_quant)?$")  # the second layer's node of a module is called LSTM_1


MAX_HELD = 1 << 26  # bytes of whole numbers that are decoded at once


def recurrent_tensors(graph: Graph, node: Node, names: Names) -> Iterator[StoredTensor]:
    """The weights and biases of one node; those whose shapes do not fit the node's kind are left as they are."""
    module, layer = _called(graph, node, names)
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


def unquantised_tensors(numbers: Numbers, node: Node, names: Names) -> Iterator[StoredTensor]:
    """The weights and biases of a DynamicQuantizeLSTM: [directions, in, 4 * hidden] with a scale a direction or a column. All or none."""
    module, layer = _called(numbers.graph, node, names)
    made = [_unquantised(numbers, node, index, 2 * index + 6) for index in (1, 2)]
    if made[0] is None or made[1] is None:
        return
    bias = numbers.of(given(node, 3))
    parts = {"weight_ih": made[0], "weight_hh": made[1]}
    if bias is not None and bias.ndim == 2 and bias.shape == (len(made[0]), 2 * made[0].shape[1]):
        halves = bias.reshape(len(bias), 2, -1)
        parts |= {"bias_ih": halves[:, 0], "bias_hh": halves[:, 1]}
    for kind, values in parts.items():
        for direction, numbers_of in enumerate(values):
            name = names.free(f"{module}.{kind}_l{layer}{'_reverse' if direction else ''}")
            ordered = np.concatenate([np.split(numbers_of, 4)[gate] for gate in GATES["LSTM"]]).astype("<f4")
            held = ordered.tobytes()
            yield StoredTensor(name, "F32", ordered.shape, (Extent(0, 0, len(held), held),))


def _unquantised(numbers: Numbers, node: Node, index: int, scale_index: int) -> Floats | None:
    """Weights of all directions as [directions, 4 * hidden, in]; None if they are damaged or so many that they cannot be held."""
    constant = numbers.constant(given(node, index))
    if constant is None or constant.extent.length > MAX_HELD:
        return None
    stored, scale, zero = (numbers.of(given(node, number)) for number in (index, scale_index, scale_index + 1))
    if stored is None or scale is None or stored.ndim != 3 or stored.shape[2] % 4:
        return None
    directions, _, wide = stored.shape
    zero = np.zeros(1, np.float32) if zero is None else zero
    if not all(few.size in (1, directions, directions * wide) for few in (scale, zero)):
        return None
    scale, zero = (few.reshape(1 if few.size == 1 else directions, 1, -1) for few in (scale, zero))
    return ((stored - zero) * scale).transpose(0, 2, 1)


def _called(graph: Graph, node: Node, names: Names) -> tuple[str, str]:
    """The module of a recurrent node and the number of its layer."""
    module = names.module(node) or _module_of_names(graph, node) or f"{node.op.lower()}.{node.order}"
    found = LAYER.search(node.name)
    return module, found[1] if found else "0"


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
