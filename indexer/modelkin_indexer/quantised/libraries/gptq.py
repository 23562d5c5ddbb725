"""GPTQ and AutoRound: qweight packed along the inputs, one scale and zero point for a group of inputs of each output.

    weight[o, i] = scales[g, o] * (q[i, o] - zero[g, o]),  g = g_idx[i], or i // group size

Version 1 of the format stores zero - 1, and zero wraps in the number's bits; version 2 stores zero.
https://github.com/AutoGPTQ/AutoGPTQ/blob/main/auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py
https://github.com/ModelCloud/GPTQModel/blob/main/gptqmodel/utils/model.py (convert_gptq_v1_to_v2_format)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.quantised.packing import FOUR_BITS, Bytes, Floats, by_groups, nibble_values, unpack_bits
from modelkin_indexer.quantised.parts import INTEGERS, Parts, Plain

BITS = (2, 3, 4, 5, 6, 7, 8)
ZERO_AS_IT_IS = ("gptq_v2", "auto_round", "auto_round:gptqmodel")  # formats that store the zero point itself
ALIGNED = 32  # numbers after which a packed row begins with a word again, whatever their bits


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """Every module with a qweight packed along its inputs."""
    for module, found in parts.modules.items():
        if is_packed(found) and not packed_along_outputs(parts, module):
            layer = _layer(parts, module)
            yield Plain(f"{module}.weight", (layer.outputs, layer.inputs), layer.kind, layer.uses, layer.rows)


def is_packed(found: Mapping[str, TensorInfo]) -> bool:
    """Whether a module has a qweight of this kind: others are of one byte a number."""
    return "qweight" in found and found["qweight"].dtype != "I8"


def packed_along_outputs(parts: Parts, module: str) -> bool:
    """AWQ's way. Raises DamagedFile where the shapes say nothing sound."""
    name = f"{module}.qweight"
    weight, scales = parts.tensors[name], parts.need(f"{module}.scales", name)
    if weight.dtype != "I32" or len(weight.shape) != 2 or len(scales.shape) != 2:
        raise parts.damaged(name, f"should be a packed matrix of I32 with a matrix of scales, not {weight.dtype} {list(weight.shape)}")
    if weight.shape[1] == scales.shape[1]:
        return False
    if weight.shape[1] < scales.shape[1]:
        return True
    raise parts.damaged(name, f"has shape {list(weight.shape)}, which contradicts its scales of shape {list(scales.shape)}")


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    bits: int
    inputs: int
    outputs: int
    groups: int
    size: int | None  # inputs in a group where g_idx does not say otherwise
    wrapped: bool  # zero - 1 is stored

    @property
    def kind(self) -> str:
        size = self.size or -(-self.inputs // self.groups)
        return f"gptq {self.bits} bits, " + ("one scale a row" if self.groups == 1 else f"groups of {size}")

    @property
    def uses(self) -> tuple[str, ...]:
        names = (f"{self.module}.{last}" for last in ("qweight", "qzeros", "scales", "g_idx"))
        return tuple(name for name in names if name in self.parts.tensors)

    def rows(self, start: int, stop: int) -> Floats:
        stream = self.parts.turned(f"{self.module}.qweight", start, stop).view(np.uint8)
        numbers = nibble_values(stream, FOUR_BITS) if self.bits == 4 else unpack_bits(stream, self.bits, self.inputs).astype(np.float32)
        scales = self.parts.columns(f"{self.module}.scales", start, stop)
        zeros = self._zeros(start, stop)
        groups = self._group_of_input()
        if groups is None:
            by_groups(np.subtract, numbers, zeros, self.size or self.inputs)
            by_groups(np.multiply, numbers, scales, self.size or self.inputs)
        else:
            numbers -= zeros[:, groups]
            numbers *= scales[:, groups]
        return numbers

    def _zeros(self, start: int, stop: int) -> Floats:
        """Zero points [outputs, groups] of some outputs."""
        stored = packed_columns(self.parts, f"{self.module}.qzeros", self.bits, start, stop)
        zeros = (stored + np.uint8(1)) & np.uint8((1 << self.bits) - 1) if self.wrapped else stored
        return zeros.astype(np.float32)

    def _group_of_input(self) -> npt.NDArray[np.int64] | None:
        """The group of each input; None where they follow each other in groups of one size."""
        name = f"{self.module}.g_idx"
        if name not in self.parts.tensors:
            return None
        groups = self.parts.integers(name)
        if groups.min() < 0 or groups.max() >= self.groups:
            raise self.parts.damaged(name, f"names groups from {groups.min()} to {groups.max()}, but there are {self.groups}")
        if self.size and np.array_equal(groups, np.arange(self.inputs) // self.size):
            return None
        return groups


def packed_columns(parts: Parts, name: str, bits: int, start: int, stop: int) -> Bytes:
    """Columns [start, stop) of a matrix of words packed along its rows, each as a row: uint8 [stop - start, rows]."""
    rows, words = parts.tensors[name].shape
    first = start // ALIGNED * bits
    last = min(words, -(-stop // ALIGNED) * bits)
    turned = parts.turned(name, first, last)
    skipped = start - start // ALIGNED * ALIGNED
    stream = np.ascontiguousarray(turned.T).view(np.uint8).reshape(rows, -1)
    return np.ascontiguousarray(unpack_bits(stream, bits, skipped + stop - start)[:, skipped:].T)


def _layer(parts: Parts, module: str) -> _Layer:
    name = f"{module}.qweight"
    weight, scales, zeros = parts.tensors[name], parts.tensors[f"{module}.scales"], parts.need(f"{module}.qzeros", name)
    groups, outputs = scales.shape
    if zeros.dtype != "I32" or len(zeros.shape) != 2 or zeros.shape[0] != groups:
        problem = f"is {zeros.dtype} of shape {list(zeros.shape)}, which contradicts scales of shape {list(scales.shape)}"
        raise parts.damaged(zeros.name, problem)
    bits = next((bits for bits in BITS if -(-outputs * bits // 32) == zeros.shape[1]), None)
    if bits is None or weight.shape[0] * 32 % bits:
        raise parts.damaged(name, f"has shape {list(weight.shape)}, which no number of bits explains beside qzeros {list(zeros.shape)}")
    inputs = weight.shape[0] * 32 // bits
    order = parts.tensors.get(f"{module}.g_idx")
    if order is not None and (order.elements != inputs or order.dtype not in INTEGERS):
        raise parts.damaged(order.name, f"has {order.elements} numbers of {order.dtype} for {inputs} inputs, not a whole number for each")
    size = parts.group_size(inputs, name) or (inputs // groups if inputs % groups == 0 else None)
    if size is not None and -(-inputs // size) != groups:
        if order is None:
            raise parts.damaged(name, f"has {groups} groups of scales, but {inputs} inputs in groups of {size}")
        size = None
    if size is None and order is None:
        raise parts.damaged(name, f"has {groups} groups of scales, which do not divide its {inputs} inputs")
    return _Layer(parts, module, bits, inputs, outputs, groups, size, _zero_less_one(parts))


def _zero_less_one(parts: Parts) -> bool:
    stated = [str(parts.stated.get(key, "")) for key in ("checkpoint_format", "format", "packing_format")]
    return not any(form in ZERO_AS_IT_IS for form in stated)
