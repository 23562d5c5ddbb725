"""Changes that small learned vectors make of matrices which are drawn from a seed and equal for all: those are constants, never shown.

VeRA (2310.11454)      diag(b) B diag(d) A, A and B cut to the weight's sizes
PVeRA                  as VeRA, with the first half of d and of the rows of A: the mean of what is drawn
RandLoRA (2502.00987)  scale * the product of all bases, A's with lambda and gamma

All modules have their bases in common, and so the space that their changes lie in: only on the base is anything shown.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelkin_indexer.adapters.formulas.change import Change, Shape
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import Module
from modelkin_indexer.quantised.packing import Floats


def vera(kit: Kit, module: Module) -> Iterator[Change]:
    """VeRA and PVeRA."""
    own = "pvera" if kit.config.kind == "PVERA" else "vera"
    up, down = kit.need(module, f"{own}_lambda_b", f"{own}_lambda_d")
    rank = kit.parts.tensors[down].elements // (2 if own == "pvera" else 1)

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        bases = [kit.need_shared(f"{own}_{side}", up) for side in "AB"]
        plain = shape[::-1] if kit.config.transposed else shape
        first, second = kit.shape(bases[0]), kit.shape(bases[1])
        if (
            len(shape) != 2
            or kit.parts.tensors[up].elements != plain[0]
            or first[1] < plain[1]
            or second[0] < plain[0]
            or second[1] != rank
        ):
            raise kit.contradicts(up, bases[1])
        lower = kit.array(bases[0])[:rank, : plain[1]] * kit.array(down)[:rank, None]
        if kit.config.transposed:
            upper = kit.array(bases[1])[: plain[0]] * kit.array(up)[:, None]
            return np.ascontiguousarray((upper @ lower[:, start:stop]).T)
        found: Floats = (kit.array(bases[1])[start:stop] * kit.array(up)[start:stop, None]) @ lower
        return found

    yield Change(f"{module.name}.weight", (up, down), delta=rows)


def randlora(kit: Kit, module: Module) -> Iterator[Change]:
    """RandLoRA."""
    strength, gains = kit.need(module, "randlora_lambda", "randlora_gamma")
    rank, count = kit.shape(strength)
    scale = np.float32(kit.config.number("randlora_alpha", rank) / rank)

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        plain = shape[::-1] if kit.config.transposed else shape
        few, many = min(plain), max(plain)
        small, large = (kit.array(module.get(f"randlora_{side}") or kit.need_shared(f"randlora_{side}", strength)) for side in "AB")
        if len(shape) != 2 or small.ndim != 3 or large.ndim != 3 or small.shape[2] < few or large.shape[0] < many:
            raise kit.damaged(strength, f"belongs to a weight of another shape than {list(shape)}")
        wide = large[:many, :count].reshape(many, -1)
        narrow = (kit.array(strength)[:, :, None] * small[:, :count, :few] * kit.array(gains)[None, :, :few]).reshape(-1, few)
        whole = wide @ narrow if few == plain[1] else (wide @ narrow).T
        found: Floats = (whole.T if kit.config.transposed else whole)[start:stop] * scale
        return found

    yield Change(f"{module.name}.weight", tuple(module.parameters.values()), delta=rows)
