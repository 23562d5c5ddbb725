"""What uses a constant of OpenVINO's graph: what lies between, which way round it is read, and what it is called."""

from __future__ import annotations

import re
from math import prod

from msgspec import Struct

from modelkin_indexer.sources.openvino.graph import Constant, Graph, Layer

RESHAPES = ("Reshape", "Squeeze", "Unsqueeze")
MAX_STEPS = 12  # operations between a constant and what computes with it; real graphs have up to 5
# Names that the exporter made up, and what it puts around a module's own.
MADE_UP = re.compile(r"^(?:Constant|Convert|Multiply|Reshape|Transpose|Broadcast|Subtract|Add|MatMul|Gather|[A-Za-z]+)_\d+$|/|aten::")
WRAPPED = re.compile(r"^(?:__module\.|self\.|_?model\.model\.(?=model\.))")
TAILS = ("_compressed", "/fq_weights_1", "/fq_weights_0", "/zero_point", "/scale")
# Where in an operation's inputs the recurrent weights are, and the order of its gates beside PyTorch's.
RECURRENT = {
    "LSTMSequence": ((4, 5, 6), (1, 0, 2, 3)),
    "LSTMCell": ((3, 4, 5), (1, 0, 2, 3)),
    "GRUSequence": ((3, 4), (1, 0, 2)),
    "GRUCell": ((2, 3), (1, 0, 2)),
}


class Use(Struct, frozen=True):
    """What computes with a constant, at which of its inputs, and what happens on the way.

    `scale` (their product) and `zero`: constants that turn whole numbers into weights; `turned`: the matrix is read as its transpose;
    `reshaped`: groups of its inputs are put together; `through`: names of what lies between.
    """

    node: Layer | None
    port: int
    scale: tuple[Constant, ...] = ()
    zero: Constant | None = None
    turned: bool = False
    reshaped: bool = False
    through: tuple[str, ...] = ()


def constant_of(graph: Graph, layer: Layer | None) -> Constant | None:
    """The constant that a layer is, or a conversion of."""
    for _ in range(MAX_STEPS):
        if layer is None or layer.constant is not None:
            return None if layer is None else layer.constant
        if layer.op not in ("Convert", *RESHAPES) or 0 not in layer.inputs:
            return None
        layer = graph[layer.inputs[0]]
    return None


def use_of(graph: Graph, layer: Layer, scaled: bool) -> Use:
    """What uses a constant's layer. `scaled`: it holds numbers that need scales, so that a product with a constant is no use yet."""
    at, port, through = layer, 0, list[str]()
    scale: tuple[Constant, ...] = ()
    zero: Constant | None = None
    turned = reshaped = False
    for _ in range(MAX_STEPS):
        if len({user for user, _ in at.users}) != 1:
            break
        number, port = at.users[0]
        node = graph[number]
        if node.op == "Convert" or (node.op in RESHAPES and port == 0):
            reshaped = reshaped or node.op == "Reshape"
        elif node.op == "Transpose" and port == 0:
            turned = not turned
        elif scaled and port == 0 and node.op in ("Subtract", "Multiply") and (other := _other(graph, node, port)) is not None:
            if node.op == "Subtract":
                zero = other[0]
            else:
                scale = other
        else:
            return Use(node, port, scale, zero, turned, reshaped, tuple(through))
        through.append(node.name)
        at = node
    users = [graph[number] for number, _ in at.users]
    first = next((node for node in users if node.op == "Gather"), users[0] if users else None)
    port = next((port for number, port in at.users if first is not None and number == first.number), 0)
    return Use(first, port, scale, zero, turned, reshaped, tuple(through))


def _other(graph: Graph, node: Layer, port: int) -> tuple[Constant, ...] | None:
    """The constants at the other input of a product or difference: one, or two that are multiplied first."""
    if 1 - port not in node.inputs:
        return None
    other = graph[node.inputs[1 - port]]
    while other.op == "Convert" and 0 in other.inputs:
        other = graph[other.inputs[0]]
    parts = [other] if other.op != "Multiply" or node.op != "Multiply" else [graph[number] for number in other.inputs.values()]
    found = tuple(constant for part in parts if (constant := constant_of(graph, part)) is not None)
    return found if found and len(found) == len(parts) else None


def is_stored_turned(use: Use) -> bool:
    """Whether a matrix is stored [in, out]."""
    said = use.node.data.get("transpose_b" if use.port else "transpose_a", "false") if use.node is not None else ""
    as_is = use.node is None or use.node.op != "MatMul" or ((said == "true") == (use.port == 1))
    return as_is == use.turned


def shape_of(constant: Constant, use: Use) -> tuple[int, ...]:
    """The shape of the weight: groups of kernels together, vectors without axes of length 1."""
    shape, op = constant.shape, use.node.op if use.node is not None else ""
    if op.startswith("GroupConvolution") and len(shape) > 3:
        return (shape[0] * shape[1], *shape[2:])
    if op in ("MatMul", "Gather") and len(shape) == 3 and use.scale and use.reshaped:
        return (shape[0], shape[1] * shape[2])
    if len(shape) > 1 and prod(shape) == max(shape):
        return (prod(shape),)
    return shape


def name_of(layer: Layer, use: Use, shape: tuple[int, ...]) -> str:
    """A weight's own name if the exporter kept it, else that of the module that computes with it."""
    for name in (layer.name, *use.through):
        plain = _plain(name)
        if plain and MADE_UP.search(plain) is None:
            return plain
    node = use.node.name if use.node is not None else layer.name
    module = WRAPPED.sub("", node).partition("/")[0]
    leaf = "weight" if len(shape) > 1 or (use.node is not None and use.node.op != "Add") else "bias"
    return f"{module}.{leaf}"


def _plain(name: str) -> str:
    for tail in TAILS:
        name = name.removesuffix(tail)
    return WRAPPED.sub("", name)
