"""Keyed projections, nothing else: signs, row choice and directions as pure functions of the key and an index.

Signs come from SHAKE-128, index by index, so that a longer row keeps its prefix. Rows are chosen from (key, spec, family, role, number of
rows) alone: never from a layer, a tensor's name, a component or a model, or a shifted layer could not be matched.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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


def matrix_rows(key: Key, family: str, role: str, rows: int) -> list[tuple[int, int]]:
    """Blocks [start, stop) of a matrix's rows: one block in each equal part of the matrix."""
    return _blocks(key, f"{family}/{role}", rows, spec.MATRIX_BLOCKS, spec.MATRIX_BLOCK_ROWS)


def unnamed_rows(key: Key, rows: int) -> list[tuple[int, int]]:
    """The same of a matrix whose name no rule knows: independent of the name, so that it is found again under another one."""
    return _blocks(key, "unnamed", rows, spec.MATRIX_BLOCKS, spec.MATRIX_BLOCK_ROWS)


def token_rows(key: Key, rows: int) -> list[tuple[int, int]]:
    """Blocks of token ids, the same for embedding and head, below a window that a grown vocabulary does not move."""
    return _blocks(key, "token", token_window(rows), spec.TOKEN_BLOCKS, spec.TOKEN_BLOCK_ROWS)


def token_window(rows: int) -> int:
    """Token ids below this number may be looked at: the largest power of two that fits, at most TOKEN_WINDOW."""
    return min(spec.TOKEN_WINDOW, 1 << (rows.bit_length() - 1))


def anchor_tokens(key: Key, rows: int) -> Ints:
    """Sorted token ids that span the anchored frame."""
    window = token_window(rows)
    order = sorted(range(window), key=lambda token: uniform(key, "anchor", token))
    return np.array(sorted(order[: spec.ANCHOR_TOKENS]), dtype=np.int64)


def expert_rows(key: Key, role: str, experts: int, rows: int) -> list[tuple[int, int, int]]:
    """Blocks (expert, start, stop) of stacked experts: EXPERT_BLOCKS blocks spread over experts and rows."""
    blocks, length = spec.EXPERT_BLOCKS, spec.EXPERT_BLOCK_ROWS
    chosen = []
    for block in range(blocks):
        expert = int((block + uniform(key, "expert", block)) * experts / blocks)
        start = int((block + uniform(key, "expert row", role, block)) * max(rows - length + 1, 1) / blocks)
        chosen.append((expert, start, min(start + length, rows)))
    return chosen


def single_expert_rows(key: Key, role: str, rows: int) -> tuple[int, int]:
    """The contiguous rows of each single expert that its small vector is made of."""
    length = min(spec.EXPERT_ROWS, rows)
    start = int(uniform(key, "single expert", role) * (rows - length + 1))
    return start, start + length


def _blocks(key: Key, label: str, rows: int, blocks: int, length: int) -> list[tuple[int, int]]:
    if rows <= blocks * length:
        return [(0, rows)]
    part = rows // blocks
    starts = [block * part + int(uniform(key, label, block) * (part - length + 1)) for block in range(blocks)]
    return [(start, start + length) for start in starts]


def sketch_rows(values: Floats, key: Key, purpose: str, slots: int, width: int) -> tuple[Floats, float]:
    """Project each row (slot) on its own `width` keyed signs and lay the results side by side.

    Returns the unit vector (slots * width) and its length before normalising; zeros where the rows are constant.
    `values` is (n <= slots, columns), already centred. Inner products estimate those of the rows (Johnson-Lindenstrauss).
    """
    table = _slot_signs(key, purpose, _chunk(values.shape[1]), slots, width)
    flat = np.zeros((slots, width))
    for slot, row in enumerate(values):
        flat[slot] = row @ table[slot, : len(row)]
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
