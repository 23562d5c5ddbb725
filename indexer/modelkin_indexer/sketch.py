"""Keyed projections, nothing else: signs, row choice and directions as pure functions of the key and an index.

Signs come from SHAKE-128, index by index, so that a longer row keeps its prefix. Rows are chosen from (key, spec, shape) alone: never from
a name, a family, a role or a layer, so that a matrix is the same under another name, in another container and at another place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NO_BLOCK = -1
MARGIN = 8  # this part of a window at both ends holds no block: so a table that grows by a fifth takes in one more block at most
FEWEST_ROWS = 4  # rows from which an offset of a column or of the diagonal is told from a value


def signs(key: Key, purpose: str, count: int, width: int) -> npt.NDArray[np.float32]:
    """±1 of shape (count, width); row i depends on i only. `width` is a multiple of 8."""
    return _sign_table(key, purpose, _chunk(count), width)[:count]


def _chunk(count: int) -> int:
    """The size of the table that serves so many rows: a few cached sizes serve all shapes."""
    return 1 << max(10, (count - 1).bit_length())


@lru_cache(maxsize=64)
def _sign_table(key: Key, purpose: str, count: int, width: int) -> npt.NDArray[np.float32]:
    stream = hashlib.shake_128(b"\0".join([b"modelkin signs", spec.VERSION.encode(), key.secret, purpose.encode()]))
    bits = np.unpackbits(np.frombuffer(stream.digest(count * width // 8), np.uint8))
    table = (bits.astype(np.float32) * 2 - 1).reshape(count, width)
    table.setflags(write=False)
    return table


def uniform(key: Key, *labels: str | int) -> float:
    """A keyed number in [0, 1) that the labels name."""
    text = "\0".join(map(str, ("modelkin rows", spec.VERSION, *labels))).encode()
    return int.from_bytes(hashlib.blake2b(text, key=key.secret, digest_size=7).digest(), "big") / 2**56


def _uniforms(key: Key, label: str, count: int) -> Floats:
    """`uniform(key, label, number)` of each number below `count`: what is the same of all is hashed once."""
    begun = hashlib.blake2b("\0".join(("modelkin rows", spec.VERSION, label, "")).encode(), key=key.secret, digest_size=7)
    found = np.empty(count)
    for number in range(count):
        one = begun.copy()
        one.update(b"%d" % number)
        found[number] = int.from_bytes(one.digest(), "big") / 2**56
    return found


class Block(Struct, frozen=True):
    """Rows [start, stop) of a matrix (of one `expert` of a stack), which fill the slots of a sketch from `slot` on."""

    start: int
    stop: int
    slot: int
    expert: int = 0


def is_tall(rows: int, columns: int) -> bool:
    """Whether a matrix has many short rows, as token tables have: then more of them are looked at, in more places."""
    return rows > spec.TALL * columns or rows >= spec.TALL_ROWS


def slots(rows: int, columns: int, experts: int = 1) -> int:
    """How many rows a sketch of this shape has room for; each fills PROBE_NUMBERS / slots numbers. `rows` are those of one expert."""
    if experts > 1:
        return spec.EXPERT_BLOCKS * spec.EXPERT_BLOCK_ROWS
    return math.prod(_form(rows, columns)[:2])


@lru_cache(maxsize=1024)
def sampled_rows(rows: int, columns: int, experts: int = 1) -> int:
    """How many rows the probe channel looks at. `rows` are those of one expert."""
    if experts > 1:
        return spec.EXPERT_BLOCKS * min(spec.EXPERT_BLOCK_ROWS, rows)
    return min(rows, slots(rows, columns))


@lru_cache(maxsize=1024)
def independent_rows(rows: int, columns: int, experts: int = 1) -> int:
    """How many sampled rows are left when their columns have been centred: one less for each group that is centred by itself."""
    blocks = chosen_rows(spec.PUBLIC_KEY, rows, columns, experts)
    sampled = sampled_rows(rows, columns, experts)
    if centred_by_block(blocks):
        return sampled - len(blocks)
    return sampled - 1 if sampled >= FEWEST_ROWS else sampled


def centred_by_block(blocks: Sequence[Block]) -> bool:
    """Whether each block is long enough to be centred by itself; else all sampled rows are together.

    A row is a part of its group's mean: of 4 rows a scaled one shows in the others (of rescaled rows, a slope a row leaves 0.5 of what one
    slope leaves, with 8 rows 0.26), so only blocks of tall matrices are alone.
    """
    return all(block.stop - block.start >= spec.TALL_BLOCK_ROWS for block in blocks)


@lru_cache(maxsize=1024)
def shared_numbers(first: tuple[int, int], second: tuple[int, int], columns: int) -> npt.NDArray[np.bool_]:
    """Which numbers of two probe sketches are of the same rows, of matrices of (rows, top block) each and the same columns."""
    shared = np.zeros(spec.PROBE_NUMBERS, np.bool_)
    if first == second:
        shared[:] = True
    elif NO_BLOCK not in (first[1], second[1]) and is_tall(first[0], columns) == is_tall(second[0], columns):
        blocks, length, _ = _form(first[0], columns)
        width = spec.PROBE_NUMBERS // (blocks * length)
        for number in range(max(first[1], second[1]) - blocks + 1, min(first[1], second[1]) + 1):
            start = number % blocks * length * width
            shared[start : start + length * width] = True
    return shared


def chosen_rows(key: Key, rows: int, columns: int, experts: int = 1) -> list[Block]:
    """The rows of a matrix, or of a stack of `experts` matrices of this shape, that the probe channel looks at.

    Block 0 is the first `length` rows; block n lies in the nth of the windows behind it, each as long as all before it. The last `blocks`
    of them that fit are taken, and block n always fills the same slots: so a table that grows keeps all blocks but one where a new one
    comes to fit, and of tall matrices none does beyond TOKEN_WINDOW. Of a matrix too small for that the first rows are taken.
    """
    if experts > 1:
        return _expert_rows(key, experts, rows)
    blocks, length, window = _form(rows, columns)
    if rows < _fewest(blocks, length):
        return [Block(start, min(start + length, rows), start) for start in range(0, min(rows, blocks * length), length)]
    fitting = _blocks(key, length, min(rows, window))
    return [Block(start, start + length, number % blocks * length) for number, start in fitting[-blocks:]]


def top_block(key: Key, rows: int, columns: int, experts: int = 1) -> int:
    """The number of the last block that `chosen_rows` takes; NO_BLOCK for stacks and small matrices, whose rows no other size has."""
    blocks, length, window = _form(rows, columns)
    if experts > 1 or rows < _fewest(blocks, length):
        return NO_BLOCK
    return _blocks(key, length, min(rows, window))[-1][0]


def _fewest(blocks: int, length: int) -> int:
    """Rows among which so many blocks fit whatever the key."""
    return length << (blocks - 1)


def _form(rows: int, columns: int) -> tuple[int, int, int]:
    """Blocks, rows of each, and below which row they lie."""
    if is_tall(rows, columns):
        return spec.TALL_BLOCKS, spec.TALL_BLOCK_ROWS, spec.TOKEN_WINDOW
    return spec.MATRIX_BLOCKS, spec.MATRIX_BLOCK_ROWS, rows


@lru_cache(maxsize=1024)
def _blocks(key: Key, length: int, rows: int) -> tuple[tuple[int, int], ...]:
    """(number, first row) of every block that fits among so many rows, in order. Block n is in [length 2^(n-1), length 2^n)."""
    found, number, window = [(0, 0)], 1, length
    while window + length <= rows:
        margin = window // MARGIN if window > length else 0
        start = window + margin + int(uniform(key, "block", length, number) * (window - 2 * margin - length + 1))
        if start + length > rows:
            break
        found.append((number, start))
        number, window = number + 1, 2 * window
    return tuple(found)


def _expert_rows(key: Key, experts: int, rows: int) -> list[Block]:
    """EXPERT_BLOCKS blocks spread over the experts of a stack and their rows."""
    blocks, length = spec.EXPERT_BLOCKS, spec.EXPERT_BLOCK_ROWS
    chosen = []
    for block in range(blocks):
        expert = int((block + uniform(key, "expert", block)) * experts / blocks)
        start = int((block + uniform(key, "expert row", block)) * max(rows - length + 1, 1) / blocks)
        chosen.append(Block(start, min(start + length, rows), block * length, expert))
    return chosen


def anchor_tokens(key: Key, rows: int) -> Ints:
    """Sorted token ids that span the anchored frame: those of the keyed order over TOKEN_WINDOW that come first and are there."""
    order = _anchor_order(key)
    return np.sort(order[order < rows][: spec.ANCHOR_TOKENS])


@lru_cache(maxsize=16)
def _anchor_order(key: Key) -> Ints:
    order = np.argsort(_uniforms(key, "anchor", spec.TOKEN_WINDOW), kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


def folded(probe: Floats) -> Floats:
    """A matrix's sketch (PROBE_NUMBERS) as the shorter one of a single expert (EXPERT_NUMBERS): linear, inner products kept on average."""
    return np.asarray(probe.reshape(-1, spec.EXPERT_NUMBERS).sum(axis=0))


def sketch_rows(values: Floats, key: Key, purpose: str, slots: int, width: int, at: Sequence[int] | None = None) -> tuple[Floats, float]:
    """Project each row on its slot's own `width` keyed signs and lay the results side by side; row i is in slot i, or `at[i]`.

    Returns the unit vector (slots * width) and its length before normalising; zeros where the rows are constant.
    `values` is (n <= slots, columns), already centred. Inner products estimate those of the rows (Johnson-Lindenstrauss).
    """
    table = _slot_signs(key, purpose, _chunk(values.shape[1]), slots, width)
    placed = np.zeros((slots, 1, values.shape[1]))
    placed[list(range(len(values)) if at is None else at), 0] = values
    flat = placed @ table[:, : values.shape[1]]
    return unit(flat.ravel() / np.sqrt(width))


@lru_cache(maxsize=16)
def _slot_signs(key: Key, purpose: str, count: int, slots: int, width: int) -> Floats:
    """The signs of `_sign_table` as (slots, count, width), each slot's in one piece of memory."""
    table = _sign_table(key, purpose, count, slots * width).reshape(count, slots, width)
    return np.ascontiguousarray(table.transpose(1, 0, 2), np.float64)


def unit(vector: Floats) -> tuple[Floats, float]:
    """The vector at length 1, and its length."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else np.zeros_like(vector)), length
