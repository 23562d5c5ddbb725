"""Fixed tables found by what they hold, and weights that only resemble them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from modelkin_indexer.anatomy.fixed_tables import constant_reason

Singles = npt.NDArray[np.float32]
FRAME = 64
BINS = FRAME // 2 + 1
WINDOWS = {
    "hann": 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME),
    "symmetric hann": np.hanning(FRAME),
    "hamming": np.hamming(FRAME),
    "none": np.ones(FRAME),
    "hann, padded": np.pad(np.hanning(48), 8),
}
FOURIER = "windowed Fourier basis (a fixed table)"


def basis(window: npt.NDArray[np.float64]) -> Singles:
    """Cosines above sines, [2 (n/2 + 1), n], as a short-time Fourier transform is stored as a convolution."""
    angles = 2 * np.pi * np.outer(np.arange(BINS), np.arange(FRAME)) / FRAME
    return (np.vstack([np.cos(angles), -np.sin(angles)]) * window).astype(np.float32)


def sampled(table: Singles, *starts: int) -> tuple[Singles, npt.NDArray[np.int64]]:
    """Blocks of four rows, as the probe channel reads them."""
    numbers = np.concatenate([np.arange(start, start + 4) for start in starts])
    return table[numbers], numbers


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("starts", [(0, 40), (11, 47), (29, 62)])
def test_fourier_bases_are_no_evidence(window: str, starts: tuple[int, int]) -> None:
    assert constant_reason(*sampled(basis(WINDOWS[window]), *starts)) == FOURIER


def test_cosines_and_sines_may_take_turns_or_stand_alone() -> None:
    stacked = basis(WINDOWS["hann"])
    turns = np.stack([stacked[:BINS], stacked[BINS:]], axis=1).reshape(2 * BINS, FRAME)
    assert constant_reason(*sampled(turns, 3, 40)) == FOURIER
    assert constant_reason(*sampled(stacked[BINS:], 0, 20)) == FOURIER


def test_a_trained_basis_is_still_a_table_until_it_has_left_it() -> None:
    table, noise = basis(WINDOWS["hann"]), np.random.default_rng(0).standard_normal((2 * BINS, FRAME)).astype(np.float32)
    assert constant_reason(*sampled(table + 0.01 * noise, 5, 40)) == FOURIER
    assert constant_reason(*sampled(table + 0.3 * noise, 5, 40)) == ""


@pytest.mark.parametrize("columns", [2, 31, 32, 256])
def test_weights_are_no_basis(columns: int) -> None:
    weights = np.random.default_rng(columns).standard_normal((66, columns)).astype(np.float32)
    assert constant_reason(*sampled(weights, 5, 40)) == ""


def test_waves_of_other_frequencies_are_no_basis() -> None:
    """Learned filters may be narrow too, but not each at its own row's frequency."""
    shuffled = basis(WINDOWS["hann"])[np.random.default_rng(1).permutation(2 * BINS)]
    assert constant_reason(*sampled(shuffled, 5, 40)) == ""


def test_silent_rows_are_only_taken_for_the_lowest_and_highest_sine() -> None:
    table = basis(WINDOWS["hann"])
    table[42] = 0
    assert constant_reason(*sampled(table, 5, 40)) == ""


def test_other_tables() -> None:
    positions = np.arange(8)
    angles = positions[:, None] * np.exp(-np.log(10000.0) / 16 * np.arange(16))
    table = np.hstack([np.sin(angles), np.cos(angles)]).astype(np.float32)
    assert constant_reason(table, positions).startswith("sinusoidal")
    table[1] = 0  # the row of the padding token
    assert constant_reason(table, positions).startswith("sinusoidal")
    assert constant_reason(np.tril(np.ones((8, 8), np.float32)), positions) == "only zeros and ones (a mask)"
    assert constant_reason(np.full((8, 8), 3, np.float32), positions) == "all values are equal"
