"""Changes that turn or scale the base's weight: told only on the base.

OFT (2306.07280)    W R', R block-diagonal, each block the Cayley transform of a skew matrix (or the first terms of its series)
BOFT (2311.06243)   as OFT in several steps, the columns re-ordered for each; rows times s
HRA (2405.17484)    W times reflections at the columns of u
RoAd (2409.00119)   rows turned in pairs and scaled; the bias too
IA3 (2205.05638)    rows or columns times l; the bias too where it is rows
HiRA                W + W o (B A)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isqrt, sqrt

import numpy as np

from modelkin_indexer.adapters.formulas.change import Change, Shape, Turn
from modelkin_indexer.adapters.formulas.kit import Kit
from modelkin_indexer.adapters.names import Module
from modelkin_indexer.quantised.packing import Floats
from modelkin_indexer.quantised.parts import Rows

TERMS = 5  # of the series that stands for the Cayley transform, where the config says nothing
CLOSE = 6e-5  # COFT's least distance to the identity, where the config says nothing


def _along_columns(kit: Kit, uses: tuple[str, ...], wide: int, work: Callable[[Floats], Floats]) -> Turn:
    """A turn that works on each row by itself."""

    def turn(rows: Rows, shape: Shape) -> Rows:
        if len(shape) != 2 or shape[1] != wide or kit.config.transposed:
            raise kit.parts.unsupported(uses[0], f"turns {wide} inputs, but the base's weight has shape {list(shape)}")
        return lambda start, stop: work(rows(start, stop))

    return turn


def _in_blocks(numbers: Floats, blocks: Floats) -> Floats:
    """Columns times a block-diagonal matrix [blocks, size, size]."""
    size = blocks.shape[1]
    found: Floats = np.einsum("rbi,bij->rbj", numbers.reshape(len(numbers), -1, size), blocks, optimize=True).reshape(numbers.shape)
    return found


def _cayley(skew: Floats) -> Floats:
    """(I + S)^-1 (I - S), which for a skew S is a rotation."""
    unit = np.eye(skew.shape[-1])
    found: Floats = np.linalg.solve(unit + skew, unit - skew).astype(np.float32)
    return found


def oft(kit: Kit, module: Module) -> Iterator[Change]:
    """OFT."""
    (name,) = kit.need(module, "oft_R")
    if len(kit.shape(name)) != 2:
        raise kit.damaged(name, f"has shape {list(kit.shape(name))}, not [blocks, numbers above a diagonal]")
    count, above = kit.shape(name)
    size = (1 + isqrt(1 + 8 * above)) // 2
    if size * (size - 1) // 2 != above:
        raise kit.damaged(name, f"has {above} numbers above the diagonal of a block, which no block has")

    def turn(rows: Rows, shape: Shape) -> Rows:
        shared = kit.config.said.get("block_share") is True and count == 1
        blocks = np.repeat(_oft_blocks(kit, name, size), shape[-1] // size, 0) if shared else _oft_blocks(kit, name, size)
        work = _along_columns(kit, (name,), len(blocks) * size, lambda found: _in_blocks(found, blocks.transpose(0, 2, 1)))
        return work(rows, shape)

    yield Change(f"{module.name}.weight", (name,), turn=turn)


def _oft_blocks(kit: Kit, name: str, size: int) -> Floats:
    numbers = kit.array(name)
    skew = np.zeros((len(numbers), size, size), np.float32)
    skew[:, *np.triu_indices(size, 1)] = numbers
    skew = skew - skew.transpose(0, 2, 1)
    if kit.config.said.get("coft") is True:
        most = kit.config.number("eps", CLOSE) / sqrt(len(skew))
        norms = np.linalg.norm(skew, axis=(1, 2), keepdims=True)
        skew = np.where(norms <= most, skew, most * skew / np.maximum(norms, most))
    if kit.config.said.get("use_cayley_neumann", True) is False:
        return _cayley(skew)
    return _series(skew, kit.config.whole("num_cayley_neumann_terms", TERMS))


def _series(skew: Floats, terms: int) -> Floats:
    """I + 2 S + 2 S^2 + ... + S^n: the first terms of the Cayley transform, the last of them once."""
    found = np.repeat(np.eye(skew.shape[-1], dtype=np.float32)[None], len(skew), 0)
    power = skew
    for term in range(1, min(terms, 64)):
        last = term == terms - 1 and term > 2
        found = found + (power if last else 2 * power)
        power = power @ skew
    return found


def boft(kit: Kit, module: Module) -> Iterator[Change]:
    """BOFT."""
    name, gains = kit.need(module, "boft_R", "boft_s")
    if len(kit.shape(name)) != 4 or kit.shape(name)[2] != kit.shape(name)[3]:
        raise kit.damaged(name, f"has shape {list(kit.shape(name))}, not [steps, blocks, size, size]")
    steps, count, size, _ = kit.shape(name)

    def work(numbers: Floats) -> Floats:
        stored = kit.array(name)
        for step in range(steps):
            order = _butterfly(count * size, count // 2**step, size // 2, steps - 1)
            skew = (stored[step] - stored[step].transpose(0, 2, 1)) / 2
            numbers = _in_blocks(numbers[:, np.argsort(order)], _cayley(skew).transpose(0, 2, 1))[:, order]
        return numbers

    turned = _along_columns(kit, (name,), count * size, work)

    def turn(rows: Rows, shape: Shape) -> Rows:
        inner = turned(rows, shape)
        if kit.parts.tensors[gains].elements != shape[0]:
            raise kit.damaged(gains, f"has {kit.parts.tensors[gains].elements} numbers for {shape[0]} rows")
        return lambda start, stop: inner(start, stop) * kit.parts.span(gains, start, stop)[:, None]

    yield Change(f"{module.name}.weight", (name, gains), turn=turn)


def _butterfly(columns: int, blocks: int, half: int, factor: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The order of columns in one step: in each of `blocks` parts first the even pieces of `half` columns, then the odd ones."""
    order = np.arange(columns)
    if not factor or not blocks or not half:
        return order
    pieces = order.reshape(blocks, -1, half)
    return np.concatenate([pieces[:, 0::2], pieces[:, 1::2]], axis=1).reshape(-1)


def hra(kit: Kit, module: Module) -> Iterator[Change]:
    """HRA."""
    (name,) = kit.need(module, "hra_u")
    if len(kit.shape(name)) != 2:
        raise kit.damaged(name, f"has shape {list(kit.shape(name))}, not a matrix")

    def work(numbers: Floats) -> Floats:
        mirrors = kit.array(name)
        if kit.config.said.get("apply_GS") is True:
            mirrors, _ = np.linalg.qr(mirrors)
        else:
            mirrors = mirrors / np.linalg.norm(mirrors, axis=0)
        for mirror in mirrors.T:
            numbers = numbers - 2 * np.outer(numbers @ mirror, mirror)
        return numbers

    yield Change(f"{module.name}.weight", (name,), turn=_along_columns(kit, (name,), kit.shape(name)[0], work))


def road(kit: Kit, module: Module) -> Iterator[Change]:
    """RoAd, of the weight and of a bias."""
    angles, sizes = kit.need(module, "road_theta", "road_alpha")
    if kit.parts.tensors[angles].elements != kit.parts.tensors[sizes].elements:
        raise kit.contradicts(angles, sizes)
    group = kit.config.whole("group_size", 64)

    def columns(count: int) -> tuple[Floats, Floats]:
        """What each output keeps of itself, and takes of the other of its pair."""
        turns, lengths = kit.array(angles).reshape(-1), kit.array(sizes).reshape(-1)
        variant = kit.config.word("variant") or "road_1"
        if variant == "road_1":
            turns, lengths = (np.repeat(each.reshape(-1, group // 2), 2, axis=0).reshape(-1) for each in (turns, lengths))
        if variant == "road_4":
            (one, other), (first, second) = (each.reshape(-1, 2, group).transpose(1, 0, 2).reshape(2, -1) for each in (turns, lengths))
            kept, taken = first * np.cos(one), second * np.sin(other)
        else:
            kept, taken = lengths * np.cos(turns), lengths * np.sin(turns)
        if len(kept) != count:
            raise kit.damaged(angles, f"turns {len(kept)} outputs, but the base has {count}")
        return kept.astype(np.float32), taken.astype(np.float32)

    def weight(rows: Rows, shape: Shape) -> Rows:
        if len(shape) != 2 or group < 2 or shape[0] % group:
            raise kit.parts.unsupported(angles, f"turns groups of {group} outputs, but the base's weight has shape {list(shape)}")
        kept, taken = columns(shape[0])

        def found(start: int, stop: int) -> Floats:
            low, high = start - start % group, min(shape[0], -(-stop // group) * group)
            block = rows(low, high)
            turned = block * kept[low:high, None] + _half_turned(block, group) * taken[low:high, None]
            return turned[start - low : stop - low]

        return found

    def bias(rows: Rows, shape: Shape) -> Rows:
        kept, taken = columns(shape[-1])
        return lambda start, stop: rows(start, stop) * kept + _half_turned(rows(start, stop).T, group).T * taken

    yield Change(f"{module.name}.weight", (angles, sizes), turn=weight)
    yield Change(f"{module.name}.bias", (angles, sizes), turn=bias, optional=True)


def _half_turned(rows: Floats, group: int) -> Floats:
    """In each group of rows the second half, negated, before the first."""
    halves = rows.reshape(-1, 2, group // 2, rows.shape[1])
    return np.stack([-halves[:, 1], halves[:, 0]], axis=1).reshape(rows.shape)


def ia3(kit: Kit, module: Module) -> Iterator[Change]:
    """IA3, of the weight and, where outputs are scaled, of a bias."""
    (name,) = kit.need(module, "ia3_l")
    count, feeds = kit.parts.tensors[name].elements, kit.shape(name)[0] == 1

    def weight(rows: Rows, shape: Shape) -> Rows:
        by_columns = feeds != kit.config.transposed
        if len(shape) < 2 or count != (shape[1] if by_columns else shape[0]) or (len(shape) > 2 and by_columns and shape[2:] != (1, 1)):
            raise kit.damaged(name, f"has {count} numbers, but the base's weight has shape {list(shape)}")
        if by_columns and len(shape) == 2:
            return lambda start, stop: rows(start, stop) * kit.array(name).reshape(1, -1)
        lines = int(np.prod(shape[1:-1])) if not by_columns else 1
        gains = np.tile(kit.array(name).reshape(-1), shape[0]) if by_columns else np.repeat(kit.array(name).reshape(-1), lines)
        return lambda start, stop: rows(start, stop) * gains[start:stop, None]

    yield Change(f"{module.name}.weight", (name,), turn=weight)
    if not feeds:
        yield Change(
            f"{module.name}.bias", (name,), turn=lambda rows, _: lambda a, b: rows(a, b) * kit.array(name).reshape(1, -1), optional=True
        )


def hira(kit: Kit, module: Module) -> Iterator[Change]:
    """HiRA."""
    first, second = kit.need(module, "hira_A", "hira_B")
    a, b = kit.shape(first), kit.shape(second)
    if len(a) != 2 or len(b) != 2 or b[1] != a[0]:
        raise kit.contradicts(first, second)

    def turn(rows: Rows, shape: Shape) -> Rows:
        if shape != (b[0], a[1]):
            raise kit.damaged(first, f"changes a weight of shape {[b[0], a[1]]}, but the base's has {list(shape)}")
        return lambda start, stop: rows(start, stop) * (1 + kit.parts.rows(second, start, stop) @ kit.array(first))

    yield Change(f"{module.name}.weight", (first, second), (b[0], a[1]), turn=turn, rank=a[0])
