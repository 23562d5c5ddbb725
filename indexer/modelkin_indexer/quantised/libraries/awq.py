"""AWQ (GEMM layout): qweight [in, out / 8] packed along the outputs, eight four-bit numbers a word in an order of their own.

    weight[o, i] = scales[g, o] * (q[i, o] - zero[g, o]),  g = i // group size

https://github.com/casper-hansen/AutoAWQ/blob/main/awq/utils/packing_utils.py
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from modelkin_indexer.quantised.libraries.gptq import is_packed, packed_along_outputs
from modelkin_indexer.quantised.packing import Floats, by_groups
from modelkin_indexer.quantised.parts import Parts, Plain

BITS, IN_WORD = 4, 8
ORDER = (0, 4, 1, 5, 2, 6, 3, 7)  # which number of a word holds output 0, 1, ... of its eight


def plain_tensors(parts: Parts) -> Iterator[Plain]:
    """Every module with a qweight packed along its outputs."""
    for module, found in parts.modules.items():
        if is_packed(found) and packed_along_outputs(parts, module):
            layer = _layer(parts, module)
            uses = tuple(f"{module}.{last}" for last in ("qweight", "qzeros", "scales"))
            kind = f"awq 4 bits, groups of {layer.size}"
            yield Plain(f"{module}.weight", (layer.outputs, layer.inputs), kind, uses, layer.rows)


class _Layer(Struct, frozen=True):
    parts: Parts
    module: str
    inputs: int
    outputs: int
    size: int

    def rows(self, start: int, stop: int) -> Floats:
        numbers = self._numbers("qweight", start, stop)
        zeros = self._numbers("qzeros", start, stop)
        by_groups(np.subtract, numbers, zeros, self.size)
        by_groups(np.multiply, numbers, self.parts.columns(f"{self.module}.scales", start, stop), self.size)
        return numbers

    def _numbers(self, last: str, start: int, stop: int) -> Floats:
        """Outputs [start, stop) of every row of a packed matrix, each as a row."""
        first, end = start // IN_WORD, -(-stop // IN_WORD)
        words = self.parts.turned(f"{self.module}.{last}", first, end)
        numbers = np.empty((end - first, IN_WORD, words.shape[1]), np.float32)
        codes = np.empty_like(words)
        for output, place in enumerate(ORDER):
            np.right_shift(words, np.uint32(BITS * place), out=codes)
            np.bitwise_and(codes, np.uint32((1 << BITS) - 1), out=codes)
            numbers[:, output] = codes.view(np.int32)  # integers with a sign become floats faster
        return numbers.reshape(-1, words.shape[1])[start - first * IN_WORD : stop - first * IN_WORD]


def _layer(parts: Parts, module: str) -> _Layer:
    name = f"{module}.qweight"
    weight, scales, zeros = parts.tensors[name], parts.tensors[f"{module}.scales"], parts.need(f"{module}.qzeros", name)
    (inputs, words), (groups, outputs) = weight.shape, scales.shape
    if words * IN_WORD != outputs:
        problem = f"has shape {list(weight.shape)}, which four bits do not explain beside scales {list(scales.shape)}"
        raise parts.damaged(name, problem)
    if zeros.dtype != "I32" or zeros.shape != (groups, words):
        raise parts.damaged(zeros.name, f"is {zeros.dtype} of shape {list(zeros.shape)}, not I32 of shape {[groups, words]}")
    size = parts.group_size(inputs, name) or -(-inputs // groups)
    if -(-inputs // size) != groups:
        raise parts.damaged(name, f"has {groups} groups of scales, but {inputs} inputs in groups of {size}")
    return _Layer(parts, module, inputs, outputs, size)
