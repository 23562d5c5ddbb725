"""What modules of kohya's, LyCORIS' and diffusers' files do: low-rank changes and products as peft's, whole changes, cores of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelkin_indexer.adapters.formulas import low_rank, products
from modelkin_indexer.adapters.formulas.change import Change, Shape
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import Module
from modelkin_indexer.quantised.packing import Floats

WHOLE = {"diff": "weight", "diff_b": "bias", "w_norm": "weight", "b_norm": "bias"}  # changes stored as they are


def changes(kit: Kit, module: Module) -> Iterator[Change]:
    """Everything that a module of such a file changes."""
    names = module.parameters
    if "lora_mid" in names:
        yield _with_core(kit, module)
    elif "lora_A" in names or "lora_B" in names:
        yield from low_rank.changes(kit, module)
    elif any(name.startswith("hada_") for name in names):
        yield from products.loha(kit, module)
    elif any(name.startswith("lokr_") for name in names):
        yield from products.lokr(kit, module)
    for parameter, last in WHOLE.items():
        if parameter in names:
            yield _whole(kit, module, parameter, last)


def _whole(kit: Kit, module: Module, parameter: str, last: str) -> Change:
    name = module[parameter]

    def rows(_: Shape, start: int, stop: int) -> Floats:
        return kit.parts.rows(name, start, stop)

    return Change(f"{module.name}.{last}", (name,), kit.shape(name), rows, alone=True)


def _with_core(kit: Kit, module: Module) -> Change:
    """A convolution's change B core A."""
    mid, first, second = kit.need(module, "lora_mid", "lora_A", "lora_B")
    rank, scale = kit.shape(first)[0], np.float32(kit.scale(module, kit.shape(first)[0]))
    if kit.shape(mid)[:2] != (kit.shape(second)[1], rank):
        raise kit.contradicts(mid, first)
    lower, upper = kit.array(first).reshape(rank, -1), kit.array(second).reshape(kit.shape(second)[0], -1).T
    shape = kit.sized(mid, (upper.shape[1], lower.shape[1], *kit.shape(mid)[2:]))

    def make(start: int, stop: int) -> Floats:
        return products.core(kit.array(mid), upper[:, start:stop], lower) * scale

    return Change(f"{module.name}.weight", (mid, first, second), shape, products.by_outputs(make), alone=True, rank=rank)
