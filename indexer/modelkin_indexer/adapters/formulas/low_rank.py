"""LoRA and what differs from it in the factors, in their start or in what is done to the sum.

LoRA (arXiv 2106.09685)      scale * B A, for [out, in] weights; turned round where the base stores [in, out], and for token tables
AdaLoRA (2303.10512)         scale * B diag(E) A
DoRA (2402.09353)            weight = m * (W + change) / |W + change| by rows, m the magnitudes
KaSA (2412.06071)            scale * B diag(d) A, on W without its `rank` smallest singular values
PiSSA (2404.02948)           scale * B A, on W without its `rank` largest
OLoRA (2406.01775)           scale * B A, on W less scale * Q R of its first `rank` columns of Q and rows of R
BD-LoRA                      A or B is block-diagonal; its blocks are stored below each other
experts (target_parameters)  A [experts * rank, in], B [out, rank * experts], a matrix for each expert

A start of A and B that is itself part of W (PiSSA, OLoRA; CorDA, LoftQ and LoRA-GA, which cannot be drawn again) is no change: without the
base nothing of it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from msgspec import Struct

from modelkin_indexer.adapters.formulas.change import After, Change, Shape, Turn
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.formulas.spectra import without_first_columns, without_largest, without_smallest
from modelkin_indexer.adapters.names import BASE_LAYER, TOKENS, Module
from modelkin_indexer.quantised.packing import Floats

MAGNITUDES = ("lora_magnitude_vector", "dora_scale")
FROM_BASE = ("pissa", "olora")  # starts that are taken from the weight itself, beginnings of what the config calls them
FROM_DATA = ("corda", "loftq", "lora_ga")  # and such as cannot be had again from the weight
ADA_ADDS = 1e-5  # to the rank, before alpha is divided by it


class Factors(Struct, frozen=True):
    """scale * B diag(middle) A. `turned`: the base stores [in, out]. `experts` > 0: a change for each."""

    kit: Kit
    first: str
    second: str
    scale: float
    rank: int
    shape: Shape
    turned: bool = False
    middle: str = ""
    first_blocks: int = 1
    second_blocks: int = 1
    experts: int = 0

    def rows(self, shape: Shape, start: int, stop: int) -> Floats:
        """Rows of the change of a weight of this shape, flattened to [all axes but the last, last axis]."""
        if self.experts:
            return self._of_experts(shape, start, stop)
        first = self._first().reshape(self.rank, -1)
        if self.turned:
            return first[:, start:stop].T @ self._second(0, prod(self.kit.shape(self.second)[:1])).T * np.float32(self.scale)
        width, lines = shape[-1], prod(shape[1:-1])
        top, bottom = start // lines, -(-stop // lines)
        found = (self._second(top, bottom) @ first).reshape(-1, width)[start - top * lines : stop - top * lines]
        return found * np.float32(self.scale)

    def _first(self) -> Floats:
        """A with what stands between the factors."""
        first = self.kit.array(self.first)
        if self.first_blocks > 1:
            first = _diagonal(first, self.first_blocks)
        if self.middle:
            first = first * self.kit.array(self.middle).reshape(-1, *(1,) * (first.ndim - 1))
        return first

    def _second(self, start: int, stop: int) -> Floats:
        """Rows of B."""
        if self.second_blocks > 1:
            return _diagonal(self.kit.array(self.second), self.second_blocks)[start:stop]
        return self.kit.parts.span(self.second, start * self.rank, stop * self.rank).reshape(-1, self.rank)

    def _of_experts(self, shape: Shape, start: int, stop: int) -> Floats:
        first = self.kit.array(self.first).reshape(self.experts, self.rank, -1)
        second = self.kit.array(self.second).reshape(-1, self.rank, self.experts)
        inward = shape != self.shape and shape == (self.shape[0], self.shape[2], self.shape[1])  # stored [experts, in, out]
        found = []
        while start < stop:
            expert, low = divmod(start, shape[1])
            high = min(shape[1], low + stop - start)
            if inward:
                found.append(first[expert][:, low:high].T @ second[:, :, expert].T)
            else:
                found.append(second[low:high, :, expert] @ first[expert])
            start += high - low
        return np.concatenate(found) * np.float32(self.scale)


def _diagonal(stacked: Floats, blocks: int) -> Floats:
    """Blocks that are stored below each other, on the diagonal of a matrix."""
    height, width = stacked.shape[0] // blocks, stacked.shape[1]
    found = np.zeros((height * blocks, width * blocks), np.float32)
    for block in range(blocks):
        found[block * height : (block + 1) * height, block * width : (block + 1) * width] = stacked[block * height : (block + 1) * height]
    return found


def changes(kit: Kit, module: Module) -> Iterator[Change]:
    """What LoRA and its kin do to a module: its weight, its bias where that is trained with it."""
    table = bool(module.get("lora_embedding_A") or module.get("lora_embedding_B"))
    sides = tuple(("lora_embedding_" if table else "lora_") + side for side in "AB")
    if not any(module.get(side) for side in sides):
        if module.get(f"{TOKENS}.trainable_tokens_delta"):
            return
        raise kit.damaged(next(iter(module.parameters.values())), "is part of a low-rank change without lora_A and lora_B")
    for side, other in (sides, sides[::-1]):
        if not module.get(side):
            raise kit.damaged(module[other], f"is a low-rank factor whose other half, {side}, is missing")
    factors = _factors(kit, module, module[sides[0]], module[sides[1]], table)
    yield _weight(kit, module, factors)
    bias = module.get("lora_B.bias")
    if bias:
        yield _bias(kit, module, bias, factors.scale)


def _factors(kit: Kit, module: Module, first: str, second: str, table: bool) -> Factors:
    a, b = kit.shape(first), kit.shape(second)
    if len(a) < 2 or len(b) < 2 or prod(b[2:]) != 1:
        raise kit.contradicts(first, second)
    if _parameter(kit, module) and (experts := _experts(kit, first, second)) is not None:
        return experts
    blocks = _blocks(kit, module, a, b)
    first_blocks, second_blocks = blocks
    rank = a[0]
    if b[1] * second_blocks != rank or (blocks != (1, 1) and len(a) > 2):
        raise kit.contradicts(first, second)
    turned = table or (kit.config.transposed and len(a) == 2)
    out, columns = b[0], (a[1] * first_blocks, *a[2:])
    shape = kit.sized(first, (columns[0], out) if turned else (out, *columns))
    middle = module.get("lora_E") or module.get("lora_diag")
    if middle and kit.parts.tensors[middle].elements != rank:
        raise kit.contradicts(middle, first)
    scale = kit.scale(module, rank + ADA_ADDS if module.get("lora_E") else rank)
    return Factors(kit, first, second, scale, rank, shape, turned, middle, first_blocks, second_blocks)


def _blocks(kit: Kit, module: Module, a: Shape, b: Shape) -> tuple[int, int]:
    """How many blocks A and B are made of (BD-LoRA): as the config says."""
    stated = kit.config.section("use_bdlora")
    blocks = stated.get("nblocks")
    if type(blocks) is not int or blocks < 2 or a[0] % blocks:
        return 1, 1
    for place, key in enumerate(("target_modules_bd_a", "target_modules_bd_b")):
        listed = stated.get(key)
        if isinstance(listed, list) and any(isinstance(word, str) and word in module.name for word in listed):
            return (blocks, 1) if place == 0 else (1, blocks)
    return 1, 1


def _parameter(kit: Kit, module: Module) -> str:
    """The base's name of the parameter that is changed, where it is no module's weight (target_parameters); "" elsewhere.

    Parameters of one module are wrapped one around the other in their order; only `base_layer` tells how deep one lies.
    """
    listed, owner = kit.config.said.get("target_parameters"), module.name.replace(BASE_LAYER, "")
    words = [word for word in listed if isinstance(word, str)] if isinstance(listed, list) else []
    mine = [last for word in words if f".{owner}".endswith(f".{word.rpartition('.')[0]}") and (last := word.rpartition(".")[2])]
    depth = module.name.count(BASE_LAYER)
    return f"{owner}.{mine[-1 - depth]}" if depth < len(mine) else ""


def _experts(kit: Kit, first: str, second: str) -> Factors | None:
    """The factors of a stack of experts: each has the config's rank. None where there is one matrix."""
    a, b, rank = kit.shape(first), kit.shape(second), kit.config.whole("r", 0)
    if rank <= 0 or a[0] % rank or a[0] == rank:
        return None
    if len(a) != 2 or len(b) != 2 or b[1] != a[0]:
        raise kit.contradicts(first, second)
    experts = a[0] // rank
    shape = kit.sized(first, (experts, b[0], a[1]))
    return Factors(kit, first, second, kit.config.scale("", rank), rank, shape, experts=experts)


def _weight(kit: Kit, module: Module, factors: Factors) -> Change:
    magnitude = next((name for last in MAGNITUDES if (name := module.get(last))), "")
    if magnitude and kit.parts.tensors[magnitude].elements != (factors.shape[1] if factors.turned else factors.shape[0]):
        raise kit.damaged(magnitude, f"has {kit.parts.tensors[magnitude].elements} magnitudes for {factors.shape[0]} rows")
    begun = kit.config.word("init_lora_weights")
    start = _start(kit, factors, begun)
    uses = (factors.first, factors.second, *(name for name in (factors.middle, magnitude) if name))
    return Change(
        _parameter(kit, module) or f"{module.name}.weight",
        uses,
        factors.shape,
        factors.rows,
        start,
        alone=not begun.startswith((*FROM_BASE, *FROM_DATA)),
        rank=factors.rank,
        after=_lengths(kit, magnitude, factors) if magnitude else None,
        unknown=f"its start is taken from data ({begun[:20]})" if begun.startswith(FROM_DATA) else "",
    )


def _start(kit: Kit, factors: Factors, begun: str) -> Turn | None:
    """What was taken away from the base's weight before training."""
    if begun.startswith("pissa"):
        return lambda rows, shape: without_largest(rows, shape, factors.rank)
    if begun.startswith("olora"):
        return lambda rows, shape: without_first_columns(rows, shape, factors.rank, factors.scale)
    if kit.config.said.get("kasa_config") is not None and factors.middle:
        return lambda rows, shape: without_smallest(rows, shape, factors.rank)
    return None


def _lengths(kit: Kit, magnitude: str, factors: Factors) -> After:
    """Rows of the sum at the lengths that the magnitudes say (DoRA)."""

    def after(found: Floats, shape: Shape, start: int, stop: int) -> Floats:
        if factors.turned or len(shape) != 2:
            raise kit.parts.unsupported(magnitude, "has DoRA magnitudes on a layer that is no plain matrix")
        lengths = np.linalg.norm(found, axis=1)
        summed: Floats = found * (kit.parts.span(magnitude, start, stop) / lengths)[:, None]
        return summed

    return after


def _bias(kit: Kit, module: Module, bias: str, scale: float) -> Change:
    count = kit.parts.tensors[bias].elements

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        return kit.parts.span(bias, 0, count).reshape(1, -1) * np.float32(scale)

    return Change(f"{module.name}.bias", (bias,), (count,), rows, alone=True)
