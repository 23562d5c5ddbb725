"""Scales and zero points of quantised ONNX weights, found in the graph."""

from __future__ import annotations

from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.sources.onnx.blocks import OPERATORS, given
from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node
from modelkin_indexer.sources.onnx.ports import Use
from modelkin_indexer.sources.onnx.small import FLOATS, Floats, Numbers
from modelkin_indexer.sources.stored.scales import SCALED, Scales, fits

FLOATS8 = ("F8_E4M3", "F8_E5M2")  # weights as they are where nothing scales them
EXPERTS = {"QMoE": (3, 6, 9, *range(11, 21))}  # inputs with scales and the like, of operators whose weights are not decoded
RESCALED_STEPS = 3  # from a product of whole numbers to the operator that scales it


class Found(Struct, frozen=True):
    """Scales, and the oriented shape of the weight that they belong to."""

    scales: Scales
    shown: tuple[int, ...]
    transposed: bool


class ScaleFinder:
    """Finds scales, and remembers which constants are scales or zero points."""

    def __init__(self, graph: Graph, numbers: Numbers) -> None:
        self._graph, self._numbers = graph, numbers
        self._used: set[str] = set()
        self._by_name = {constant.name: constant.value for constant in graph.constants.values()}

    def is_used(self, constant: Constant) -> bool:
        """Whether a constant is a scale or zero point of a weight found so far."""
        return constant.value in self._used

    def use(self, node: Node, *inputs: int) -> None:
        """Remember inputs of a node as scales, zero points and the like."""
        self._used.update(value for index in inputs if (value := given(node, index)))

    def scales(self, constant: Constant, use: Use) -> Found | None:
        """How a constant of numbers of a few bits becomes weights; None if it is none."""
        if not constant.shape or prod(constant.shape) < 2 or constant.value in self._used or constant.dtype not in SCALED:
            return None
        if use.node is not None and use.node.op in OPERATORS:
            blocks = OPERATORS[use.node.op](self._numbers, constant, use.node)
            self.use(use.node, 2, 3, 4)
            return Found(*blocks, False) if blocks is not None else None
        found = self._by_node(constant, use)
        scales = self._fitted(constant, use, *found) if found is not None else None
        if scales is None:
            return None
        turned = use.turned and len(scales.shape) == 2
        return Found(scales, scales.shape[::-1] if turned else scales.shape, turned)

    def _by_node(self, constant: Constant, use: Use) -> tuple[Floats, Floats | None] | None:
        """Scale and zero point (None if they cannot be read), as they are stored."""
        values = self._values(constant, use)
        scale = self._numbers.of(values[0]) if values is not None else None
        if values is None or scale is None:
            return None
        zero = self._numbers.of(values[1]) if values[1] else np.zeros((), np.float32)
        self._used.update(source for value in values if value for source in self._numbers.sources(value))
        if use.scaling is None and use.node is not None and use.port is not None and use.port.factor:
            factor = self._numbers.of(given(use.node, use.port.factor))
            return (scale * factor.reshape(-1)[:1], zero) if factor is not None and factor.size else None
        return scale, zero

    def _values(self, constant: Constant, use: Use) -> tuple[str, str] | None:
        """The values that hold scale and zero point ("" for none)."""
        if use.scaling is not None:
            return (use.scaling.scale, use.scaling.zero) if self._is_scale(use.scaling.scale) else None
        if use.node is None or use.port is None:
            return None
        scale = given(use.node, use.port.scale) if use.port.scale else self._product(use.node)
        if not scale and constant.name.endswith("_quantized"):
            scale = self._by_name.get(constant.name.removesuffix("_quantized") + "_scale", "")
        return (scale, given(use.node, use.port.zero) if use.port.zero else "") if scale else None

    def _is_scale(self, value: str) -> bool:
        constant = self._numbers.constant(value)
        return constant is None or constant.dtype in (*FLOATS, *FLOATS8, "F8_E8M0")

    def _product(self, node: Node) -> str:
        """The constant scale that the whole-number result of a node is multiplied with."""
        value = node.outputs[0] if node.outputs else ""
        for _ in range(RESCALED_STEPS):
            followers = self._graph.users.get(value, ())
            factor = next(((user, index) for user, index in followers if user.op == "Mul" and len(user.inputs) == 2), None)
            if factor is not None:
                other = factor[0].inputs[1 - factor[1]]
                maker = self._graph.makers.get(other)
                candidates = maker.inputs if maker is not None and maker.op == "Mul" else (other,)
                return next((value for value in candidates if value in self._graph.constants), "")
            step = next((user for user, _ in followers if user.op in ("Cast", "Add") and user.outputs), None)
            if step is None:
                return ""
            value = step.outputs[0]
        return ""

    def _fitted(self, constant: Constant, use: Use, scale: Floats, zero: Floats | None) -> Scales | None:
        """Scales and zero points with an axis for each of the weight's."""
        shape, scaling = constant.shape, use.scaling
        if zero is None:
            return None
        is_blocks = scaling is not None and scale.ndim == 3 and scale.shape[2] == 1 and zero.shape in ((), (1,), scale.shape)
        if is_blocks and len(shape) in (2, 3):  # cut into blocks before the scales, or put together behind them
            shape = (shape[0], prod(shape[1:]))
            scale, zero = (numbers.reshape(numbers.shape[:2]) if numbers.ndim == 3 else numbers for numbers in (scale, zero))
        made = [self._spread(numbers, shape, use) for numbers in (scale, zero)]
        size = scaling.node.number("block_size", 0) if scaling is not None else 0
        return Scales(constant.dtype, shape, made[0], made[1], size) if made[0] is not None and made[1] is not None else None

    def _spread(self, numbers: Floats, shape: tuple[int, ...], use: Use) -> Floats | None:
        axes = len(shape)
        if numbers.size == 1:
            return numbers.reshape((1,) * axes)
        swapped = use.scaling is not None and use.scaling.swapped and axes == 2
        stored = numbers.T if swapped and numbers.ndim == 2 else numbers
        if stored.ndim == axes and fits(shape, stored.shape):
            return stored
        axis = self._axis(use, axes)
        axis = axes - 1 - axis if swapped else axis
        return numbers.reshape([-1 if index == axis else 1 for index in range(axes)]) if numbers.size == shape[axis] else None

    def _axis(self, use: Use, axes: int) -> int:
        """The axis along which scales of one axis differ: by the node that says it, else that of the outputs."""
        scaling = use.scaling
        if scaling is None:
            return axes - 1 if use.turned else 0
        if scaling.by_row:
            return 0
        return (scaling.node.number("axis", 1) if scaling.node.op == "DequantizeLinear" else -1) % axes
