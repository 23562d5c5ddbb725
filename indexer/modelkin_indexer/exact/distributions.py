"""Two sets of values held against each other by how they are distributed, in bounded memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
BINS = 1 << 16
EXACT_NUMBERS = 1 << 18  # up to here values are kept and sorted: every norm, and small matrices
# Bins in the order of their values: negative numbers, whose bits grow with their size, from the largest size down, then the others.
_ORDER = np.concatenate([np.arange(BINS - 1, BINS // 2 - 1, -1), np.arange(BINS // 2)])
_HALF_BIN = 0x8000


class Histogram:
    """Counts of float32 values by their upper 16 bits: exact for BF16 and narrower exponents, else bins 1/128 of their value wide."""

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(BINS, np.int64)

    def add(self, values: Singles) -> None:
        """Count contiguous values."""
        self.counts += np.bincount(values.reshape(-1).view(np.uint32) >> np.uint32(16), minlength=BINS)


def positions(exact: bool) -> Floats:
    """The value that stands for each bin, ascending: its only value where types are `exact` in 16 bits, else its middle."""
    bits = _ORDER.astype(np.uint32) << np.uint32(16)
    if not exact:
        bits[_ORDER != 0] |= np.uint32(_HALF_BIN)  # zero stays zero: most bins near it are empty, and equal values differ by it
    with np.errstate(invalid="ignore"):  # bins of NaN, which are never filled
        return np.asarray(bits.view(np.float32), np.float64)


def ordered(histogram: Histogram) -> Counts:
    """Counts in the order of `positions`."""
    return np.asarray(histogram.counts[_ORDER])


def sorted_counts(a: Singles, b: Singles) -> tuple[Floats, Counts, Counts]:
    """Distinct values of both, ascending, and how often each has them."""
    distinct, where = np.unique(np.concatenate([a, b]), return_inverse=True)
    parts = where.reshape(-1)[: a.size], where.reshape(-1)[a.size :]
    counts = [np.bincount(part, minlength=distinct.size) for part in parts]
    return distinct.astype(np.float64), counts[0], counts[1]


def distances(values: Floats, a: Counts, b: Counts) -> tuple[float, float]:
    """Wasserstein-1 and Kolmogorov-Smirnov distance of two sets given as counts at ascending values.

    W1 is the integral of |F_a - F_b|, KS its largest value.
    """
    there = (a > 0) | (b > 0)
    gap = np.abs(np.cumsum(a[there]) / a.sum() - np.cumsum(b[there]) / b.sum())
    return float(gap[:-1] @ np.diff(values[there])), float(gap.max())


def fullest_bin(a: Counts, b: Counts) -> float:
    """The largest share of values in one bin: what a distribution function may rise by unseen."""
    return float(max(a.max() / a.sum(), b.max() / b.sum()))


def quantile(values: Floats, counts: Counts, share: float) -> float:
    """The smallest position with at least `share` of the counts at or below it."""
    total = np.cumsum(counts)
    return float(values[int(np.searchsorted(total, share * total[-1]))])
