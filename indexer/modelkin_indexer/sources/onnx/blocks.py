"""Weights of onnxruntime's own operators, in blocks of numbers of a few bits: MatMulNBits, MatMulBnb4, GatherBlockQuantized.

MatMulNBits             [N, blocks, bytes of a block] of 2, 4 or 8 bits; scales [N, blocks]; zero points are packed row by row
MatMulBnb4              all numbers of [N, K] one after the other, NF4 or FP4, the high half first; one absmax for a block of them
GatherBlockQuantized    a table whose last axis (or another) is cut into blocks, packed in U8 or of a type of 2 or 4 bits
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from modelkin_indexer.sources.onnx.graph import Constant, Node
from modelkin_indexer.sources.onnx.small import Floats, Numbers
from modelkin_indexer.sources.stored.scales import SCALED, Scales, fits

PACKED_BITS = {2: "U2", 4: "U4", 8: "U8"}
BNB_CODES = ("BNB_FP4", "NF4")  # by the attribute quant_type
Blocks = tuple[Scales, tuple[int, ...]]  # how it is stored, and the shape that it is presented in


def given(node: Node, index: int) -> str:
    """The value of an input, "" if there is none."""
    return node.inputs[index] if index < len(node.inputs) else ""


def _n_bits(numbers: Numbers, constant: Constant, node: Node) -> Blocks | None:
    outputs, inputs, size = (node.number(name, 0) for name in ("N", "K", "block_size"))
    bits = node.number("bits", 4)
    if bits not in PACKED_BITS or min(outputs, inputs, size) <= 0 or constant.dtype != "U8":
        return None
    blocks = -(-inputs // size)
    scale, zero = numbers.of(given(node, 2)), _zeros(numbers, given(node, 3), (outputs, blocks), bits)
    if scale is None or zero is None or scale.size != outputs * blocks or prod(constant.shape) * 8 != outputs * blocks * size * bits:
        return None
    if given(node, 4) and not _in_order(numbers.of(given(node, 4)), inputs, size):
        return None
    stored = Scales(PACKED_BITS[bits], (outputs, blocks * size), scale.reshape(outputs, blocks), zero, size)
    return stored, (outputs, inputs)


def _in_order(groups: Floats | None, inputs: int, size: int) -> bool:
    """Whether inputs belong to groups in their order (`g_idx`)."""
    return groups is not None and np.array_equal(groups.reshape(-1)[:inputs], np.arange(inputs) // size)


def _zeros(numbers: Numbers, value: str, shape: tuple[int, ...], bits: int) -> Floats | None:
    """Zero points: packed, each row in bytes of its own; or plain numbers; or none, which stands for the middle."""
    if not value:
        return np.full((1,) * len(shape), float(1 << bits - 1), np.float32)
    zeros, constant = numbers.of(value), numbers.constant(value)
    if zeros is None or constant is None:
        return None
    if constant.dtype != "U8" or bits == 8:
        return zeros.reshape(shape) if zeros.size == prod(shape) else None
    each, rows = 8 // bits, prod(shape[:-1])
    if zeros.size != rows * -(-shape[-1] // each):
        return None
    codes = zeros.reshape(rows, -1, 1).astype(np.uint8) >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8((1 << bits) - 1)
    return codes.reshape(rows, -1)[:, : shape[-1]].astype(np.float32).reshape(shape)


def _bnb4(numbers: Numbers, constant: Constant, node: Node) -> Blocks | None:
    outputs, inputs, size = (node.number(name, 0) for name in ("N", "K", "block_size"))
    kind, scale, count = node.number("quant_type", -1), numbers.of(given(node, 2)), outputs * inputs
    if kind not in (0, 1) or min(outputs, inputs, size) <= 0 or not node.number("transB", 1) or constant.dtype != "U8":
        return None
    if scale is None or scale.size != -(-count // size) or prod(constant.shape) != -(-count // 2):
        return None
    return Scales(BNB_CODES[kind], (count,), scale.reshape(-1), np.zeros(1, np.float32), size), (outputs, inputs)


def _gathered(numbers: Numbers, constant: Constant, node: Node) -> Blocks | None:
    axes, size, bits = len(constant.shape), node.number("block_size", 128), node.number("bits", 4)
    each = 8 // bits if constant.dtype == "U8" and bits in PACKED_BITS else 1
    dtype = PACKED_BITS.get(bits, "") if constant.dtype == "U8" else constant.dtype
    scale = numbers.of(given(node, 2))
    shape = (*constant.shape[:-1], constant.shape[-1] * each)
    if dtype not in SCALED or scale is None or not fits(shape, scale.shape):
        return None
    axis = node.number("quantize_axis", 1) % axes
    if size and scale.shape[axis] not in (1, -(-shape[axis] // size)):
        return None
    if constant.dtype == "U8":
        zero = _zeros(numbers, given(node, 3), scale.shape, bits)
    else:
        zero = numbers.of(given(node, 3)) if given(node, 3) else np.zeros((1,) * axes, np.float32)
    if zero is None or zero.shape not in (scale.shape, (1,) * axes):
        return None
    return Scales(dtype, shape, scale, zero, size), shape


OPERATORS: Mapping[str, Callable[[Numbers, Constant, Node], Blocks | None]] = {
    "MatMulNBits": _n_bits,
    "MatMulBnb4": _bnb4,
    "GatherBlockQuantized": _gathered,
}
