"""Changes that are products of small tensors and have the base's shape by themselves.

LoHa (2108.06098)     scale * (w1_a w1_b) o (w2_a w2_b), each half with a core t over the kernel in convolutions
LoKr (2212.10650)     scale * w1 (x) w2, the Kronecker product; each of both may be a product of two
VB-LoRA (2405.15179)  B A, whose pieces are mixtures of the vectors of one bank, weighted by the softmax of the largest logits
C3A (2407.19342)      blocks that are circulant, over the number of inputs
GraLoRA (2505.20355)  blocks of B A that exchange parts of their ranks, and a low-rank change of all
DeLoRA (2503.18225)   B diag(lambda / rank / |a_i| |b_i|) A, columns times norms of the base's
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from modelkin_indexer.adapters.formulas.change import Change, Delta, Shape
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import Module
from modelkin_indexer.quantised.packing import Floats

LEAST_NORM = 1e-4  # of DeLoRA's factors
Outputs = Callable[[int, int], Floats]  # numbers of outputs [start, stop), whatever the axes behind them


def by_outputs(make: Outputs) -> Delta:
    """Rows of a weight of any shape from its numbers output by output."""

    def rows(shape: Shape, start: int, stop: int) -> Floats:
        lines = prod(shape[1:-1])
        top, bottom = start // lines, -(-stop // lines)
        found: Floats = make(top, bottom).reshape(-1, shape[-1])[start - top * lines : stop - top * lines]
        return found

    return rows


def _weight(module: Module, uses: tuple[str, ...], shape: Shape, make: Outputs, rank: int = 0) -> Change:
    return Change(f"{module.name}.weight", uses, shape, by_outputs(make), alone=True, rank=rank)


def core(t: Floats, a: Floats, b: Floats) -> Floats:
    """[out, in, kernel...] of a core [rank, rank, kernel...] with a [rank, out] and b [rank, in]."""
    found: Floats = np.einsum("ij...,io,jc->oc...", t, a, b, optimize=True)
    return found


def loha(kit: Kit, module: Module) -> Iterator[Change]:
    """LoHa, of a matrix or a convolution."""
    halves = [kit.need(module, f"hada_w{half}_a", f"hada_w{half}_b") for half in (1, 2)]
    cores = [name for half in (1, 2) if (name := module.get(f"hada_t{half}"))]
    uses = (*halves[0], *halves[1], *cores)
    rank = kit.shape(halves[0][1])[0]
    scale = np.float32(kit.scale(module, rank))
    for a, b in halves:
        if len(kit.shape(a)) != 2 or len(kit.shape(b)) != 2 or kit.shape(a)[0 if cores else 1] != kit.shape(b)[0]:
            raise kit.contradicts(a, b)
    (first_a, first_b), (second_a, second_b) = halves
    if len(cores) == 2:
        shape = kit.sized(first_a, (kit.shape(first_a)[1], kit.shape(first_b)[1], *kit.shape(cores[0])[2:]))

        def make(start: int, stop: int) -> Floats:
            sides = zip(cores, halves, strict=True)
            one, other = (core(kit.array(t), kit.array(a)[:, start:stop], kit.array(b)) for t, (a, b) in sides)
            return one * other * scale
    else:
        shape = kit.sized(first_a, (kit.shape(first_a)[0], kit.shape(first_b)[1]))

        def make(start: int, stop: int) -> Floats:
            one = kit.parts.rows(first_a, start, stop) @ kit.array(first_b)
            found: Floats = one * (kit.parts.rows(second_a, start, stop) @ kit.array(second_b)) * scale
            return found

    yield _weight(module, uses, shape, make, rank)


def lokr(kit: Kit, module: Module) -> Iterator[Change]:
    """LoKr, of a matrix or a convolution."""
    rank = next((kit.shape(name)[0] for half in (1, 2) if (name := module.get(f"lokr_w{half}_b"))), 0)
    # In LyCORIS alpha counts only where a side is a product.
    scale = np.float32(kit.scale(module, rank or kit.config.number("r", 1) or 1) if rank or kit.config.there else 1)
    uses = tuple(name for parameter, name in module.parameters.items() if parameter.startswith("lokr_"))
    sides = [_lokr_side(kit, module, half) for half in (1, 2)]
    left, right = (side() for side in sides)
    if left.ndim != 2 or right.ndim < 2:
        raise kit.damaged(uses[0], f"stands for factors of {left.ndim} and {right.ndim} axes")
    height = right.shape[0]
    shape = kit.sized(uses[0], (left.shape[0] * height, left.shape[1] * right.shape[1], *right.shape[2:]))

    def make(start: int, stop: int) -> Floats:
        one, other = (side() for side in sides)
        rows = np.arange(start, stop)
        chosen = one[rows // height].reshape(len(rows), -1, *(1,) * (other.ndim - 1))
        found: Floats = (chosen * other[rows % height][:, None]).reshape(len(rows), *shape[1:]) * scale
        return found

    yield _weight(module, uses, shape, make, rank)


def _lokr_side(kit: Kit, module: Module, half: int) -> Callable[[], Floats]:
    """w1 or w2: as it is, a product, or a core with its sides."""
    if whole := module.get(f"lokr_w{half}"):
        return lambda: kit.array(whole)
    a, b = kit.need(module, f"lokr_w{half}_a", f"lokr_w{half}_b")
    t = module.get(f"lokr_t{half}")
    if t:
        return lambda: core(kit.array(t), kit.array(a), kit.array(b))
    if kit.shape(a)[-1] != kit.shape(b)[0]:
        raise kit.contradicts(a, b)
    return lambda: (kit.array(a) @ kit.array(b).reshape(kit.shape(b)[0], -1)).reshape(kit.shape(a)[0], *kit.shape(b)[1:])


def vblora(kit: Kit, module: Module) -> Iterator[Change]:
    """VB-LoRA."""
    first, second = kit.need(module, "vblora_logits_A", "vblora_logits_B")
    bank, most = kit.need_shared("vblora_vector_bank", first), kit.config.whole("topk", 2)
    a, b, vectors = kit.shape(first), kit.shape(second), kit.shape(bank)
    if len(a) != 3 or len(b) != 3 or len(vectors) != 2 or a[2] not in (vectors[0], most - 1) or a[0] != b[1] or not 0 < most <= vectors[0]:
        raise kit.contradicts(first, second)
    if a[2] != vectors[0]:
        raise kit.parts.unsupported(first, "is stored as indices and weights of its largest logits alone (save_only_topk_weights)")
    shape = kit.sized(first, (b[0] * vectors[1], a[1] * vectors[1]))

    def make(start: int, stop: int) -> Floats:
        lines = _mixtures(kit.array(second), kit.array(bank), most).transpose(0, 2, 1).reshape(shape[0], a[0])
        found: Floats = lines[start:stop] @ _mixtures(kit.array(first), kit.array(bank), most).reshape(a[0], shape[1])
        return found

    yield _weight(module, (first, second), shape, make, a[0])


def _mixtures(logits: Floats, bank: Floats, most: int) -> Floats:
    """Vectors of the bank in the shares that the `most` largest logits give."""
    chosen = np.argpartition(-logits, most - 1, axis=-1)[..., :most]
    largest = np.take_along_axis(logits, chosen, -1)
    shares = np.exp(largest - largest.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    found: Floats = (shares[..., None] * bank[chosen]).sum(-2)
    return found


def c3a(kit: Kit, module: Module) -> Iterator[Change]:
    """C3A: the number in row i and column j of a block is kernel[(j - i) mod size]."""
    (kernel,) = kit.need(module, "c3a_kernel")
    if len(kit.shape(kernel)) != 3:
        raise kit.damaged(kernel, f"has shape {list(kit.shape(kernel))}, not three axes")
    tall, wide, size = kit.shape(kernel)
    shape = kit.sized(kernel, (tall * size, wide * size))

    def make(start: int, stop: int) -> Floats:
        numbers = kit.array(kernel)
        rows = np.arange(start, stop)
        turned = (np.arange(size) - rows[:, None]) % size
        found = numbers[rows // size][np.arange(len(rows))[:, None, None], np.arange(wide)[:, None], turned[:, None]]
        blocks: Floats = found.reshape(len(rows), -1) / np.float32(shape[1])
        return blocks

    yield _weight(module, (kernel,), shape, make)


def gralora(kit: Kit, module: Module) -> Iterator[Change]:
    """GraLoRA. Block row n, block column m: ranks of part n of A of block column m meet B of block row n."""
    first, second = kit.need(module, "gralora_A", "gralora_B")
    a, b = kit.shape(first), kit.shape(second)
    if len(a) != 3 or len(b) != 3 or a[0] != b[0] or a[2] != b[1] or a[2] % a[0]:
        raise kit.contradicts(first, second)
    blocks, rank = a[0], a[2]
    shape = kit.sized(first, (blocks * b[2], blocks * a[1]))
    extra = tuple(module.get(f"gralora_{side}_general") for side in "AB")
    hybrid = kit.shape(extra[0])[0] if all(extra) else 0
    scale = np.float32((kit.config.alpha or 1.0) / (rank + hybrid))

    def make(start: int, stop: int) -> Floats:
        left = kit.array(first).reshape(blocks, a[1], blocks, rank // blocks)  # block column, input, part, rank of the part
        right = kit.array(second).reshape(blocks, blocks, rank // blocks, b[2])  # block row, part, rank of the part, output
        made = np.einsum("miks,kmso->komi", left, right, optimize=True).reshape(shape)[start:stop]
        if all(extra):
            made = made + kit.parts.rows(extra[1], start, stop) @ kit.array(extra[0])
        found: Floats = made * scale
        return found

    yield _weight(module, (first, second, *(name for name in extra if name)), shape, make, rank)


def delora(kit: Kit, module: Module) -> Iterator[Change]:
    """DeLoRA."""
    first, second, strength = kit.need(module, "delora_A", "delora_B", "delora_lambda")
    a, b, norms = kit.shape(first), kit.shape(second), module.get("delora_w_norm")
    if len(a) != 2 or len(b) != 2 or b[1] != a[0]:
        raise kit.contradicts(first, second)

    def make(start: int, stop: int) -> Floats:
        lower, upper = kit.array(first), kit.array(second)
        lengths = np.maximum(np.linalg.norm(lower, axis=1), LEAST_NORM) * np.maximum(np.linalg.norm(upper, axis=0), LEAST_NORM)
        found: Floats = (upper[start:stop] * (kit.array(strength) / a[0] / lengths)) @ lower
        return found * kit.array(norms) if norms else found

    yield _weight(module, (first, second, strength, *((norms,) if norms else ())), kit.sized(first, (b[0], a[1])), make, a[0])
