"""Scales and zero points of quantised ONNX weights, found in the graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from modelkin_indexer.sources.onnx.graph import Constant, Graph, Node
from modelkin_indexer.sources.onnx.ports import Use
from modelkin_indexer.sources.stored.extents import OpenFiles
from modelkin_indexer.sources.stored.scales import WHOLE, Scales, fits

QUANTISED = ("I8", "U8", "I4", "U4", "I16", "U16", "I32")
NUMBERS: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F64": np.float64, **WHOLE}
MAX_SCALES = 1 << 28  # bytes of one tensor's scales
HALF = 8.0  # zero point of MatMulNBits where none is given
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """Scales, and the oriented shape of the weight that they belong to."""

    scales: Scales
    shown: tuple[int, ...]
    transposed: bool


class ScaleFinder:
    """Finds scales, and remembers which constants are scales or zero points."""

    def __init__(self, graph: Graph, files: OpenFiles) -> None:
        self._graph, self._files = graph, files
        self._used: set[str] = set()
        self._by_name = {constant.name: constant.value for constant in graph.constants.values()}

    def is_used(self, constant: Constant) -> bool:
        """Whether a constant is a scale or zero point of a weight found so far."""
        return constant.value in self._used

    def scales(self, constant: Constant, use: Use) -> Found | None:
        """How a constant of whole numbers becomes weights; None if it is none."""
        if not constant.shape or prod(constant.shape) < 2 or constant.value in self._used:
            return None
        if use.node is not None and use.node.op == "MatMulNBits":
            return self._blocks(constant, use.node)
        values = self._values(constant, use)
        if values is None:
            return None
        scale = self._array(values[0], constant, use)
        zero = self._array(values[1], constant, use) if values[1] else np.zeros((1,) * len(constant.shape), np.float32)
        if scale is None or zero is None:
            return None
        self._used.update(value for value in values if value)
        turned = use.turned and len(constant.shape) == 2
        shown = constant.shape[::-1] if turned else constant.shape
        return Found(Scales(constant.dtype, constant.shape, scale, zero), shown, turned)

    def _values(self, constant: Constant, use: Use) -> tuple[str, str] | None:
        """The values that hold scale and zero point ("" for none)."""
        if use.scaled is not None:
            return _input(use.scaled, 1), _input(use.scaled, 2)
        if use.node is None or use.port is None:
            return None
        scale = _input(use.node, use.port.scale) if use.port.scale else self._product(use.node)
        if not scale and constant.name.endswith("_quantized"):
            scale = self._by_name.get(constant.name.removesuffix("_quantized") + "_scale", "")
        return (scale, _input(use.node, use.port.zero) if use.port.zero else "") if scale else None

    def _product(self, node: Node) -> str:
        """The constant scale that the whole-number result of a node is multiplied with."""
        value = node.outputs[0] if node.outputs else ""
        for _ in range(3):
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

    def _array(self, value: str, constant: Constant, use: Use) -> Floats | None:
        """Scales or zero points with an axis for each of the weight's."""
        numbers = self._numbers(value)
        if numbers is None:
            return None
        shape = constant.shape
        if numbers.size == 1:
            return numbers.reshape((1,) * len(shape))
        if numbers.ndim != len(shape) or not fits(shape, numbers.shape):
            axis = self._axis(use, len(shape))
            if numbers.size != shape[axis]:
                return None
            numbers = numbers.reshape([-1 if index == axis else 1 for index in range(len(shape))])
        return numbers

    def _axis(self, use: Use, axes: int) -> int:
        """The stored axis along which scales differ: by the node that says it, else that of the outputs."""
        if use.scaled is not None:
            axis = use.scaled.number("axis", 1)
            return axis % axes
        return axes - 1 if use.turned else 0

    def _numbers(self, value: str) -> npt.NDArray[Any] | None:
        """A small constant's numbers, in its own shape."""
        constant = self._graph.constants.get(value)
        if constant is None or constant.dtype not in NUMBERS or constant.extent.length > MAX_SCALES:
            return None
        raw = np.frombuffer(self._files.read(constant.extent, constant.name), np.uint8)
        if constant.dtype in ("I4", "U4"):
            one = np.ones((1,) * max(1, len(constant.shape)), np.float32)
            shape = constant.shape or (1,)
            if len(raw) != -(-prod(shape) // 2):
                return None
            return Scales(constant.dtype, (prod(shape),), one.reshape(1), 0 * one.reshape(1)).decode(raw, 0, prod(shape)).reshape(shape)
        numbers = raw[: len(raw) // np.dtype(NUMBERS[constant.dtype]).itemsize * np.dtype(NUMBERS[constant.dtype]).itemsize]
        numbers = numbers.view(NUMBERS[constant.dtype]).astype(np.float32)
        return numbers.reshape(constant.shape) if numbers.size == prod(constant.shape) else None

    def _blocks(self, constant: Constant, node: Node) -> Found | None:
        """MatMulNBits: rows of outputs, cut into blocks of 4 bits along the inputs, each with a scale."""
        outputs, inputs = node.number("N", 0), node.number("K", 0)
        size = node.number("block_size", 0)
        if node.number("bits", 4) != 4 or min(outputs, inputs, size) <= 0 or inputs % size or len(constant.shape) > 3:
            return None
        blocks = inputs // size
        scale, zero = self._numbers(_input(node, 2)), self._zero_blocks(node, outputs, blocks)
        if scale is None or zero is None or scale.size != outputs * blocks or prod(constant.shape) * 2 != outputs * inputs:
            return None
        self._used.update(value for value in (_input(node, 2), _input(node, 3)) if value)
        shape = outputs, inputs
        return Found(Scales("U4", shape, scale.reshape(outputs, blocks), zero), shape, False)

    def _zero_blocks(self, node: Node, outputs: int, blocks: int) -> Floats | None:
        """Zero points of blocks: two in a byte, each row in bytes of its own; or as plain numbers."""
        value = _input(node, 3)
        if not value:
            return np.full((1, 1), HALF, np.float32)
        numbers = self._numbers(value)
        if numbers is None or self._graph.constants[value].dtype != "U8":
            return numbers.reshape(outputs, blocks) if numbers is not None and numbers.size == outputs * blocks else None
        if numbers.size != outputs * -(-blocks // 2):
            return None
        packed = numbers.reshape(outputs, -1).astype(np.uint8)
        return np.stack([packed & 15, packed >> 4], axis=-1).reshape(outputs, -1)[:, :blocks].astype(np.float32)


def _input(node: Node, index: int) -> str:
    return node.inputs[index] if index < len(node.inputs) else ""
