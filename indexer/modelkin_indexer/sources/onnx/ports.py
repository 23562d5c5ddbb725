"""Where operators of ONNX graphs take weights: which input, stored which way round, with which scales, and from which module.

Exporters fold the transpose of a linear layer into its weight and lose the name (`onnx::MatMul_123`). What the graph keeps tells it again:
the bias that is added next, the scope in the node's name, the scopes in its metadata; else the order in the graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node


class Port(Struct, frozen=True):
    """An input that takes weights. `input_first`: as a matrix [in, out]. `scale`, `zero`: the inputs with scales and zero points, or 0.

    `factor`: an input whose number the scales are multiplied with.
    """

    parameter: str
    input_first: bool = False
    scale: int = 0
    zero: int = 0
    factor: int = 0


WEIGHT, TURNED, BIAS = Port("weight"), Port("weight", True), Port("bias")
# onnx.ai/onnx/operators and onnxruntime's ContribOperators.md: inputs by number.
PORTS: dict[str, dict[int, Port]] = {
    "MatMul": {0: WEIGHT, 1: TURNED},
    "FusedMatMul": {1: TURNED},
    "Gemm": {1: TURNED, 2: BIAS},
    "Conv": {1: WEIGHT, 2: BIAS},
    "FusedConv": {1: WEIGHT, 2: BIAS},
    "ConvTranspose": {1: WEIGHT, 2: BIAS},
    "PRelu": {1: WEIGHT},
    "Gather": {0: WEIGHT},
    "BatchNormalization": {1: WEIGHT, 2: BIAS, 3: Port("running_mean"), 4: Port("running_var")},
    "InstanceNormalization": {1: WEIGHT, 2: BIAS},
    "GroupNormalization": {1: WEIGHT, 2: BIAS},
    "LayerNormalization": {1: WEIGHT, 2: BIAS},
    "RMSNormalization": {1: WEIGHT},
    "SimplifiedLayerNormalization": {1: WEIGHT},
    "SkipLayerNormalization": {2: WEIGHT, 3: BIAS},
    "SkipSimplifiedLayerNormalization": {2: WEIGHT},
    "MatMulInteger": {1: Port("weight", True, zero=3)},
    "ConvInteger": {1: Port("weight", zero=3)},
    "DynamicQuantizeMatMul": {1: Port("weight", True, 2, 3), 4: BIAS},
    "MatMulIntegerToFloat": {1: Port("weight", True, 3, 5), 6: BIAS},
    "ConvIntegerToFloat": {1: Port("weight", scale=3, zero=5), 6: BIAS},
    "QLinearMatMul": {3: Port("weight", True, 4, 5)},
    "QLinearConv": {3: Port("weight", scale=4, zero=5), 8: Port("bias", scale=4, factor=1)},
    "QGemm": {3: Port("weight", True, 4, 5), 6: Port("bias", scale=4, factor=1)},
    "MatMulNBits": {1: Port("weight", scale=2, zero=3), 5: BIAS},
    "MatMulBnb4": {1: Port("weight", scale=2)},
    "GatherBlockQuantized": {0: Port("weight", scale=2, zero=3)},
    "Attention": {1: TURNED, 2: BIAS},
    "PackedAttention": {1: TURNED, 2: BIAS},
    "QAttention": {1: Port("weight", True, 4, 7), 2: BIAS},
    "EmbedLayerNormalization": {2: Port("words"), 3: Port("positions"), 4: Port("segments"), 5: WEIGHT, 6: BIAS},
    "QEmbedLayerNormalization": {
        2: Port("words", scale=8, zero=13),
        3: Port("positions", scale=9, zero=14),
        4: Port("segments", scale=10, zero=15),
        5: Port("weight", scale=11, zero=16),
        6: Port("bias", scale=12, zero=17),
    },
}
RECURRENT = ("LSTM", "GRU", "RNN")
QUANTISED_LSTM = "DynamicQuantizeLSTM"
TRANSPOSABLE = ("Gemm", "FusedMatMul", "QGemm")  # with an attribute transB
PASSING = ("Identity", "Cast", "DequantizeLinear", "Transpose", "Reshape", "Unsqueeze", "Squeeze")
PLAIN_STEPS = ("Identity", "Cast", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Gather")  # between a constant and who scales with it
RESCALING = ("Cast", "Mul", "Add")  # what may stand between a product of whole numbers and its bias
BIAS_STEPS = 3
MAX_STEPS = 8  # operators between a constant and the one that takes it as a weight
# Names that exporters make up.
LOST = re.compile(
    r"(?:onnx::\w+?_)?\d+|val_\d+|(?:const_fold_opt_|const)_*\d+|.*Constant(?:_\d+)?_output_\d+|(?:Constant|Transpose|Identity)_.*",
    re.ASCII,
)
HEAD = "lm_head.weight"  # a table of tokens that is read under this name is tied to the head, and is called after its own module
STORED_AS = re.compile(r"(?:_quantized|_quant|_Transposed|_DQ_Q\d+|_Q\d(?:G\d+)?|_Bnb4|_QDQ)+$")
SCOPE_STEP = re.compile(r"'([^']*)'")


class Use(Struct, frozen=True):
    """How a constant is used: the node that takes it as a weight and at which port, None where none does.

    `turned`: the constant is a matrix [in, out]. `scaling` says how it is dequantised on the way, if it is.
    """

    node: Node | None = None
    port: Port | None = None
    index: int = 0
    turned: bool = False
    scaling: Scaling | None = None


class Scaling(Struct, frozen=True):
    """How a constant becomes weights on the way: the `node` that does it, and the values of scale and zero point ("" for none).

    `swapped`: the node has the transpose of the constant before it. `by_row`: rows of both are taken out before.
    """

    node: Node
    scale: str
    zero: str
    swapped: bool = False
    by_row: bool = False


def use_of(graph: Graph, constant: Constant) -> Use:
    """The use that says most: as a table, then as a matrix, then any."""
    return min(_uses(graph, constant.value, Way(MAX_STEPS)), key=_order, default=Use())


def _order(use: Use) -> tuple[bool, bool, bool, int]:
    node = use.node
    return node is None, node is not None and node.op != "Gather", use.scaling is None, node.order if node is not None else 0


class Way(Struct, frozen=True):
    """What happened to a constant so far: steps that may follow, whether it was transposed and how dequantised, what was subtracted."""

    steps: int
    turned: bool = False
    scaling: Scaling | None = None
    zero: str = ""
    gathered: bool = False


def _uses(graph: Graph, value: str, way: Way) -> Iterator[Use]:
    for node, index in graph.users.get(value, ())[:MAX_USERS]:
        port = PORTS.get(node.op, {}).get(index)
        if port is not None:
            first = port.input_first and not (node.op in TRANSPOSABLE and node.number("transB", 0))
            scaling = way.scaling
            if scaling is None and node.op == "Gather" and node.outputs:
                after = _uses(graph, node.outputs[0], replace(way, steps=GATHERED_STEPS, gathered=True))
                scaling = next((use.scaling for use in after if use.scaling is not None), None)
            yield Use(node, port, index, first != way.turned, scaling)
        elif node.op in (*RECURRENT, QUANTISED_LSTM) and index in (1, 2, 3):
            yield Use(node, None, index, False, way.scaling)
        elif way.steps and node.outputs and (further := _passed(graph, node, index, way)) is not None:
            if further.scaling is not None:
                yield Use(scaling=further.scaling)
            yield from _uses(graph, node.outputs[0], further)


def _passed(graph: Graph, node: Node, index: int, way: Way) -> Way | None:
    """The way behind one more operator; None if it is no step between a constant and the one that takes it as a weight."""
    way = replace(way, steps=way.steps - 1)
    if node.op in ("Sub", "Mul") and way.scaling is None and len(node.inputs) == 2:
        other, by_row = constant_behind(graph, node.inputs[1 - index])
        if not other or (node.op == "Sub" and index):
            return None
        if node.op == "Sub":
            return replace(way, zero=other)
        return replace(way, scaling=Scaling(node, other, way.zero, way.turned, way.gathered and by_row))
    if node.op not in PASSING or index:
        return None
    if node.op == "DequantizeLinear":
        scale, zero = (node.inputs[number] if number < len(node.inputs) else "" for number in (1, 2))
        return replace(way, scaling=Scaling(node, scale, zero, way.turned))
    swaps = node.op == "Transpose" and node.numbers.get("perm", (1, 0))[-2:] in ((1, 0), (2, 1))
    return replace(way, turned=way.turned != swaps)


def constant_behind(graph: Graph, value: str) -> tuple[str, bool]:
    """The constant that a value is, but for its shape or type ("" if it is none), and whether it is some rows of it."""
    rows = False
    for _ in range(GATHERED_STEPS):
        maker = graph.makers.get(value)
        if value in graph.constants or maker is None:
            break
        rows = rows or maker.op == "Gather"
        value = maker.inputs[0] if maker.op in PLAIN_STEPS and maker.inputs else ""
    return (value if value in graph.constants else ""), rows


GATHERED_STEPS = 4  # from a table of whole numbers, or of scales, to the operator that multiplies them
MAX_USERS = 64  # of one value, looked at; a table of positions is read by each layer


class Names:
    """Names for the constants of one graph; each is given once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._taken: set[str] = set()
        self._lost: dict[str, int] = {}
        self._scoped = any(node.scope for node in graph.nodes)  # then parameters are called by their module, and others after operations

    def _is_lost(self, name: str) -> bool:
        return LOST.fullmatch(name) is not None or (self._scoped and "." not in name)

    def of(self, constant: Constant, use: Use) -> str:
        """A free name: its own unless it is lost, else its module's, else by its order among the lost ones."""
        stem = STORED_AS.sub("", constant.name)
        plain = stem.replace(".MatMul.", ".")
        if self._is_lost(plain) or (use.node is not None and use.node.op == "Gather" and plain.endswith(HEAD)):
            plain = self._found(use) or self._numbered(use)
        return self.free(constant.branch + plain)

    def free(self, name: str) -> str:
        """The name, with a number after it if it is taken."""
        free, count = name, 1
        while free in self._taken:
            count += 1
            free = f"{name}.{count}"
        self._taken.add(free)
        return free

    def module(self, node: Node) -> str:
        """The module a node comes from, "" if nothing tells."""
        scopes = SCOPE_STEP.findall(node.scope)
        if scopes:
            return str(scopes[-2]) if len(scopes) > 1 else ""  # the last step is the operation itself
        path = node.name.strip("/").split("/")
        return ".".join(path[:-1]) if len(path) > 1 and node.name.startswith("/") else ""

    def _found(self, use: Use) -> str:
        if use.node is None or use.port is None:
            return ""
        module = self._module_of_bias(use.node) if use.port.parameter == "weight" else ""
        module = module or self.module(use.node)
        return f"{module}.{use.port.parameter}" if module else ""

    def _module_of_bias(self, node: Node) -> str:
        """By the name of the bias: an input of the node itself or of the addition that follows."""
        inputs = [node.inputs[index] for index, port in PORTS[node.op].items() if port is BIAS and index < len(node.inputs)]
        value = node.outputs[0] if node.outputs else ""
        for _ in range(BIAS_STEPS):
            followers = [user for user, _ in self._graph.users.get(value, ()) if user.op in RESCALING and user.outputs]
            inputs += [other for user in followers if user.op == "Add" for other in user.inputs]
            if len(followers) != 1:
                break
            value = followers[0].outputs[0]
        names = (self._graph.constants[value].name for value in inputs if value in self._graph.constants)
        return next((name.removesuffix(".bias") for name in names if name.endswith(".bias")), "")

    def _numbered(self, use: Use) -> str:
        """`matmul.3.weight`: the fourth lost one of its kind."""
        kind = "constant" if use.node is None else use.node.op.lower()
        parameter = "weight" if use.port is None else use.port.parameter
        key = f"{kind}.{parameter}"
        number = self._lost[key] = self._lost.get(key, -1) + 1
        return f"{kind}.{number}.{parameter}"
