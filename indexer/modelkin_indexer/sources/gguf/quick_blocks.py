"""The commonest of ggml's types to numbers: what the `gguf` library's decoders give, bit by bit, in a quarter to two thirds of their time.

A block of Q4_0 and Q8_0 holds 32 numbers with one scale. One of Q4_K, Q5_K and Q6_K holds 256 in groups of 32 (Q6_K: 16) with a scale each,
in units of the block's own; Q4_K and Q5_K have offsets too.
https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h (block_q4_0 and others)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Q4_0_BYTES, Q8_0_BYTES = 18, 34  # of a block
Q4_BYTES, Q5_BYTES, Q6_BYTES = 144, 176, 210
LOW = np.uint8(15)  # of a byte, its low half


def q4_0(stored: Bytes, out: Floats) -> None:
    """Blocks of Q4_0 (1-D) to `out`, 32 numbers each."""
    blocks = stored.reshape(-1, Q4_0_BYTES)
    codes = np.empty((len(blocks), 2, 16), np.uint8)
    np.bitwise_and(blocks[:, 2:], LOW, out=codes[:, 0])
    np.right_shift(blocks[:, 2:], np.uint8(4), out=codes[:, 1])
    codes -= np.uint8(8)
    groups = out.reshape(-1, 32)
    groups[...] = codes.view(np.int8).reshape(groups.shape)
    groups *= _units(blocks[:, :2])


def q8_0(stored: Bytes, out: Floats) -> None:
    """Blocks of Q8_0 (1-D) to `out`, 32 numbers each."""
    blocks, groups = stored.reshape(-1, Q8_0_BYTES), out.reshape(-1, 32)
    groups[...] = blocks[:, 2:].view(np.int8)
    groups *= _units(blocks[:, :2])


def _units(stored: Bytes) -> Floats:
    """Half precision numbers at places that may not be even: (blocks, 2 bytes each) to (blocks, numbers)."""
    return np.ascontiguousarray(stored).view(np.float16).astype(np.float32)


def q4_k(stored: Bytes, out: Floats) -> None:
    """Blocks of Q4_K (1-D) to `out`, 256 numbers each."""
    blocks, groups = stored.reshape(-1, Q4_BYTES), out.reshape(-1, 8, 32)
    halves = blocks[:, 16:].reshape(-1, 4, 32)
    groups[:, 0::2] = halves & LOW
    groups[:, 1::2] = halves >> np.uint8(4)
    _scale(groups, blocks)


def q5_k(stored: Bytes, out: Floats) -> None:
    """Blocks of Q5_K (1-D) to `out`, 256 numbers each."""
    blocks = stored.reshape(-1, Q5_BYTES)
    fifth, halves = blocks[:, 16:48], blocks[:, 48:].reshape(-1, 4, 32)
    codes = np.empty((len(blocks), 8, 32), np.uint8)
    np.bitwise_and(halves, LOW, out=codes[:, 0::2])
    np.right_shift(halves, np.uint8(4), out=codes[:, 1::2])
    for group in range(8):
        codes[:, group] |= (fifth >> np.uint8(group) & np.uint8(1)) << np.uint8(4)
    groups = out.reshape(codes.shape)
    groups[...] = codes
    _scale(groups, blocks)


def q6_k(stored: Bytes, out: Floats) -> None:
    """Blocks of Q6_K (1-D) to `out`, 256 numbers each."""
    blocks = stored.reshape(-1, Q6_BYTES)
    halves, upper = blocks[:, :128].reshape(-1, 2, 2, 32), blocks[:, 128:192].reshape(-1, 2, 32)
    codes = np.empty((len(blocks), 2, 4, 32), np.uint8)
    np.bitwise_and(halves, LOW, out=codes[:, :, :2])
    np.right_shift(halves, np.uint8(4), out=codes[:, :, 2:])
    for group in range(4):
        codes[:, :, group] |= (upper >> np.uint8(2 * group) & np.uint8(3)) << np.uint8(4)
    codes -= np.uint8(32)
    scales = _units(blocks[:, 208:]) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    groups = out.reshape(len(blocks), 16, 16)
    groups[...] = codes.view(np.int8).reshape(groups.shape)
    groups *= scales[:, :, None]


def _scale(groups: Floats, blocks: Bytes) -> None:
    """Multiply each group (blocks, 8, 32) by its scale and take its offset away; both have 6 bits, packed in 12 bytes."""
    head = np.ascontiguousarray(blocks[:, :16])
    units, low, high, both = _units(head[:, :4]), head[:, 4:8], head[:, 8:12], head[:, 12:]
    scales = np.concatenate([low & np.uint8(63), both & LOW | low >> np.uint8(2) & np.uint8(48)], axis=1)
    offsets = np.concatenate([high & np.uint8(63), both >> np.uint8(4) | high >> np.uint8(2) & np.uint8(48)], axis=1)
    groups *= (units[:, :1] * scales.astype(np.float32))[:, :, None]
    groups -= (units[:, 1:] * offsets.astype(np.float32))[:, :, None]


DECODERS: Mapping[str, Callable[[Bytes, Floats], None]] = {"Q4_0": q4_0, "Q8_0": q8_0, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k}
