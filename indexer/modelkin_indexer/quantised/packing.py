"""Packed numbers to single ones: bit streams, four-bit floats, scales over groups of columns. Arrays in, arrays out."""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def small_floats(exponent: int, mantissa: int) -> Floats:
    """All values of a float by their codes: a sign, bits of exponent (bias 2^(bits - 1) - 1) and of mantissa; no infinities, no NaN."""
    codes = np.arange(1 << (exponent + mantissa))
    power, part = codes >> mantissa, (codes & (1 << mantissa) - 1) / (1 << mantissa)
    bias = (1 << exponent - 1) - 1
    positive = np.where(power > 0, np.ldexp(1 + part, power - bias), np.ldexp(part, 1 - bias))
    return np.concatenate([positive, -positive]).astype(np.float32)


FOUR_BITS = np.arange(16, dtype=np.float32)  # codes that are numbers themselves
# OCP Microscaling Formats 1.0
FP4_VALUES = small_floats(2, 1)
FP6_E2M3_VALUES = small_floats(2, 3)
FP6_E3M2_VALUES = small_floats(3, 2)


def unpack_bits(stream: Bytes, bits: int, count: int) -> Bytes:
    """The first `count` numbers of `bits` (1 to 8) bits in each row of a little-endian bit stream [n, bytes]: uint8 [n, count].

    One rule for GPTQ, AWQ, HQQ and compressed-tensors: number i lies at bit `i * bits`, across words where they do not divide.
    """
    period = 8 // gcd(8, bits)  # numbers until they begin with a byte again
    width = period * bits // 8
    groups = -(-count // period)
    lacking = groups * width - stream.shape[1]
    if lacking > 0:
        stream = np.pad(stream, ((0, 0), (0, lacking)))
    packed = stream[:, : groups * width].reshape(len(stream), groups, width)
    numbers = np.empty((len(stream), groups, period), np.uint8)
    for index in range(period):
        byte, shift = divmod(index * bits, 8)
        value = packed[..., byte] >> np.uint8(shift)
        if shift + bits > 8:
            value = value | packed[..., byte + 1] << np.uint8(8 - shift)
        numbers[..., index] = value & np.uint8((1 << bits) - 1)
    return numbers.reshape(len(stream), groups * period)[:, :count]


def unpack_words(stream: Bytes, bits: int, count: int) -> Bytes:
    """Numbers in 32-bit words of which each holds `32 // bits` and leaves the rest empty: uint8 [n, count]."""
    in_word = 32 // bits
    words = np.ascontiguousarray(stream).view("<u4")
    shifts = np.arange(in_word, dtype=np.uint32) * np.uint32(bits)
    numbers: Bytes = (words[:, :, None] >> shifts & np.uint32((1 << bits) - 1)).astype(np.uint8)
    return numbers.reshape(len(stream), -1)[:, :count]


def nibbles(packed: Bytes, *, high_first: bool = False) -> Bytes:
    """Two four-bit numbers a byte along the last axis, the low one first unless `high_first`."""
    numbers = np.empty((*packed.shape, 2), np.uint8)
    numbers[..., 1 if high_first else 0] = packed & np.uint8(15)
    numbers[..., 0 if high_first else 1] = packed >> np.uint8(4)
    return numbers.reshape(*packed.shape[:-1], -1)


def nibble_values(packed: Bytes, values: Floats, *, high_first: bool = False) -> Floats:
    """The values (16) of two four-bit codes a byte along the last axis, as `nibbles` orders them: looked up two at a time."""
    low, high = np.tile(values, 16), np.repeat(values, 16)
    pairs = np.stack([high, low] if high_first else [low, high], axis=1).view(np.uint64).reshape(-1)
    found = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.float32)
    np.take(pairs, packed, out=found.view(np.uint64), mode="clip")  # codes are below 256: nothing is clipped, and no copy is made
    return found


def by_groups(operation: np.ufunc, numbers: Floats, groups: Floats, size: int) -> None:
    """Change numbers [n, columns] in place by those of their groups [n, groups] of `size` columns; [n, 1] is for all columns."""
    columns = numbers.shape[1]
    if groups.shape[1] > 1 and columns % size == 0 and numbers.flags.c_contiguous:
        grouped = numbers.reshape(len(numbers), -1, size)
        operation(grouped, groups[:, : columns // size, None], out=grouped)
    else:
        operation(numbers, over_columns(groups, size, columns), out=numbers)


def over_columns(groups: Floats, size: int, columns: int) -> Floats:
    """Numbers of groups [n, groups] spread over the `size` columns of each: [n, columns]; [n, 1] where one number is for all."""
    if groups.shape[1] == 1:
        return groups
    spread: Floats = np.repeat(groups, size, axis=1)
    return spread[:, :columns]


def exponents(stored: Bytes) -> Floats:
    """Powers of two from their biased exponents (E8M0: 2^(byte - 127), 255 is NaN)."""
    powers: Floats = np.ldexp(np.float32(1), np.minimum(stored, np.uint8(254)).astype(np.int32) - 127)
    powers[stored == 255] = np.nan
    return powers
