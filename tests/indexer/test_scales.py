"""Whole numbers with scales: any part decodes to what the formula gives, however the scales are shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelkin_indexer.sources.stored.scales import Scales

RANDOM = np.random.default_rng(0)
SHAPES = [((4, 6), ones) for ones in [(1, 1), (4, 1), (1, 6), (4, 2), (2, 6)]]
SHAPES += [((3, 4, 5), ones) for ones in [(3, 1, 1), (1, 1, 5), (3, 2, 5)]]
SHAPES += [((4, 6, 1, 1), (4, 1, 1, 1)), ((7,), (7,)), ((1, 9), (1, 3))]


def stored(numbers: Any, dtype: str) -> Any:
    if dtype == "I8":
        return numbers.astype(np.int8).reshape(-1).view(np.uint8)
    bits = int(dtype[1])
    codes = numbers.reshape(-1).astype(np.uint8) & ((1 << bits) - 1)
    codes = np.append(codes, np.zeros(-numbers.size % (8 // bits), np.uint8)).reshape(-1, 8 // bits)
    return np.bitwise_or.reduce(codes << np.arange(0, 8, bits, dtype=np.uint8), axis=1)


def spread(few: Any, shape: tuple[int, ...]) -> Any:
    for axis, many in enumerate(shape):
        few = np.repeat(few, -(-many // few.shape[axis]), axis=axis)
    return few


@pytest.mark.parametrize("dtype", ["I8", "I4"])
@pytest.mark.parametrize(("shape", "few"), SHAPES)
def test_every_part_of_a_tensor(dtype: str, shape: tuple[int, ...], few: tuple[int, ...]) -> None:
    numbers = RANDOM.integers(-2, 2, shape) if dtype == "I2" else RANDOM.integers(-8, 8, shape)
    scale, zero = RANDOM.random(few).astype(np.float32), RANDOM.integers(-3, 3, few).astype(np.float32)
    expected = ((numbers - spread(zero, shape)) * spread(scale, shape)).astype(np.float32).reshape(-1)
    raw, scales = stored(numbers, dtype), Scales(dtype, shape, scale, zero)
    for first in range(numbers.size):
        for last in range(first + 1, numbers.size + 1):
            bounds = list(scales.chunks(first, last))
            assert (bounds[0][0], bounds[-1][1]) == (first, last)
            found = [scales.decode(raw[slice(*scales.bytes_of(low, high))], low, high) for low, high in bounds]
            assert np.array_equal(np.concatenate(found), expected[first:last])
