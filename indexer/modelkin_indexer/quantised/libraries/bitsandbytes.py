"""bitsandbytes NF4 and FP4: four-bit indexes into a code book, each block of numbers times its largest magnitude.

    weight[i] = quant_map[q[i]] * absmax[i // blocksize]

over the weight in C order, the high half of a byte first; the bytes may be declared as another type (`quant_storage`). Quantised twice,
absmax itself is
nested_quant_map[absmax[j]] * nested_absmax[j // nested_blocksize] + nested_offset.
https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py (QuantState.as_dict)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from math import isfinite, prod
from typing import Any

import numpy as np
from msgspec import Struct

from modelkin_indexer.quantised.packing import Floats, by_groups, nibble_values
from modelkin_indexer.quantised.parts import Found, Parts, Plain, Undecoded
from modelkin_indexer.sources.stored import values

STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")
MAX_AXES = 8


def plain_tensors(parts: Parts) -> Iterator[Found]:
    """Every weight with a quant_state beside it; those of the config's method that lack it are an error."""
    states = {name.partition(STATE)[0]: name for name in parts.tensors if STATE in name}
    for name, state in states.items():
        sides = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
        uses = (name, state, *(side for side in (f"{name}.{last}" for last in sides) if side in parts.tensors))
        kind = state.partition(STATE)[2]
        if kind in KINDS:
            weight = _weight(parts, name, state, kind)
            yield Plain(name, weight.shape, weight.kind, uses, weight.rows)
        elif name in parts.tensors:
            yield Undecoded(f"bitsandbytes {kind[:40]}", uses)
    for name in parts.tensors:
        weight_name = name.removesuffix(".absmax")
        if name.endswith(".absmax") and weight_name in parts.tensors and weight_name not in states:
            raise parts.damaged(weight_name, "is quantised, but its quant_state, which is needed to decode it, is missing")


class _Weight(Struct, frozen=True, dict=True):
    parts: Parts
    name: str
    quant_type: str
    shape: tuple[int, ...]
    block: int
    nested_block: int  # 0 where absmax is stored plainly
    nested_offset: float

    @property
    def kind(self) -> str:
        return f"bitsandbytes {self.quant_type}" + (", quantised twice" if self.nested_block else "")

    def rows(self, start: int, stop: int) -> Floats:
        columns = self.shape[-1]
        first, last = start * columns, stop * columns
        packed = self.parts.raw_bytes(self.name, first // 2, -(-last // 2))
        numbers = nibble_values(packed, self._code, high_first=True)[first % 2 :][: last - first]
        blocks = range(first // self.block, -(-last // self.block))
        largest = self._largest(blocks.start, blocks.stop)
        if first % self.block == 0 and last % self.block == 0:
            by_groups(np.multiply, numbers.reshape(-1, self.block), largest[:, None], self.block)
        else:
            at = np.arange(blocks.start, blocks.stop)
            numbers *= np.repeat(largest, np.minimum((at + 1) * self.block, last) - np.maximum(at * self.block, first))
        return numbers.reshape(stop - start, columns)

    def _largest(self, start: int, stop: int) -> Floats:
        """absmax of blocks [start, stop)."""
        name = f"{self.name}.absmax"
        if not self.nested_block:
            return self.parts.span(name, start, stop)
        codes = self.parts.raw_span(name, start, stop)
        first = start // self.nested_block
        nested = self.parts.span(f"{self.name}.nested_absmax", first, -(-stop // self.nested_block))
        scales = nested[np.arange(start, stop) // self.nested_block - first]
        return self._nested_code[codes] * scales + np.float32(self.nested_offset)

    @cached_property
    def _code(self) -> Floats:
        return self.parts.span(f"{self.name}.quant_map", 0, 16)

    @cached_property
    def _nested_code(self) -> Floats:
        return self.parts.span(f"{self.name}.nested_quant_map", 0, 256)


def _weight(parts: Parts, name: str, state: str, kind: str) -> _Weight:
    stated = _stated(parts, state)
    shape, block = stated.get("shape"), stated.get("blocksize")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_AXES or not all(type(n) is int and n > 0 for n in shape):
        raise parts.damaged(state, f"states the shape {str(shape)[:80]!r}")
    if type(block) is not int or block <= 0:
        raise parts.damaged(state, f"states blocks of {str(block)[:80]!r}")
    nested, offset = _nesting(parts, name, state, stated)
    weight = _Weight(parts, name, kind, tuple(shape), block, nested, offset)
    _check_sizes(parts, weight)
    return weight


def _stated(parts: Parts, state: str) -> dict[str, Any]:
    """The JSON in a quant_state tensor."""
    try:
        stated = json.loads(parts.small(state).tobytes())
    except (ValueError, RecursionError) as error:
        raise parts.damaged(state, "is not the JSON that bitsandbytes writes") from error
    if not isinstance(stated, dict):
        raise parts.damaged(state, "is not the JSON object that bitsandbytes writes")
    return stated


def _nesting(parts: Parts, name: str, state: str, stated: dict[str, Any]) -> tuple[int, float]:
    if f"{name}.nested_absmax" not in parts.tensors:
        return 0, 0.0
    block, offset = stated.get("nested_blocksize"), stated.get("nested_offset")
    if type(block) is not int or block <= 0:
        raise parts.damaged(state, f"states nested blocks of {str(block)[:80]!r}")
    if not isinstance(offset, (int, float)) or isinstance(offset, bool) or not isfinite(offset):
        raise parts.damaged(state, f"states the nested offset {str(offset)[:80]!r}")
    return block, float(offset)


def _check_sizes(parts: Parts, weight: _Weight) -> None:
    """Each tensor holds as many numbers, of the type, that the state asks for; the codes as many bytes, whatever type they are declared."""
    blocks = -(-prod(weight.shape) // weight.block)
    stored, wanted = parts.need(weight.name, weight.name), -(-prod(weight.shape) // 2)
    if not wanted <= stored.nbytes < wanted + values.bits(stored.dtype) // 8:
        problem = f"has {stored.nbytes:,} bytes of {stored.dtype}, but {wanted:,} belong to shape {list(weight.shape)}"
        raise parts.damaged(stored.name, problem)
    sides = {".absmax": (blocks, "U8" if weight.nested_block else None), ".quant_map": (16, None)}
    if weight.nested_block:
        sides |= {".nested_absmax": (-(-blocks // weight.nested_block), None), ".nested_quant_map": (256, None)}
    for last, (count, dtype) in sides.items():
        info = parts.need(weight.name + last, weight.name)
        if info.elements != count or dtype not in (None, info.dtype):
            problem = (
                f"has {info.elements:,} numbers of {info.dtype}, but {count:,} of {dtype or 'floats'} belong to shape {list(weight.shape)}"
            )
            raise parts.damaged(info.name, problem)
