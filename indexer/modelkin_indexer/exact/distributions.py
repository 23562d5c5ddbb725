"""Two sets of values held against each other by how they are distributed, in bounded memory."""

from __future__ import annotations

import math
from functools import lru_cache

import faiss
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
SHIFT = 16
WAITING = 1 << 19  # values counted together: adding a count to the others costs as much as 60,000 of them
LARGEST_COUNT = (1 << 32) - 1


class Histogram:
    """Counts of float32 values by their upper 16 bits: exact for BF16 and narrower exponents, else bins 1/128 of their value wide."""

    def __init__(self) -> None:
        self._counts: Counts = np.zeros(BINS, np.int64)
        self._waiting = np.empty(WAITING, np.int32)  # bins of values that are not counted yet
        self._full = 0
        self._room = np.zeros(BINS, np.uint32)  # what others count
        self._promised = 0

    def add(self, values: Singles) -> None:
        """Count contiguous values."""
        flat = values.reshape(-1).view(np.uint32)
        for start in range(0, flat.size, WAITING):
            some = flat[start : start + WAITING]
            if self._full + some.size > WAITING:
                self._count()
            waiting = self._waiting[self._full : self._full + some.size]
            np.right_shift(some, np.uint32(SHIFT), out=waiting.view(np.uint32))
            self._full += some.size

    def room(self, numbers: int) -> npt.NDArray[np.uint32]:
        """Where the caller may count so many values more, by their upper 16 bits."""
        if self._promised + numbers > LARGEST_COUNT:
            self._count()
        self._promised += numbers
        return self._room

    def ordered(self) -> Counts:
        """Counts in the order of `positions`."""
        self._count()
        return np.asarray(self._counts[_ORDER])

    def _count(self) -> None:
        if self._full:
            new = np.empty(BINS, np.int32)
            histogram = faiss.ivec_hist  # type: ignore[attr-defined]  # three times as fast as numpy's bincount
            histogram(self._full, faiss.swig_ptr(self._waiting), BINS, faiss.swig_ptr(new))
            self._counts += new
        self._counts += self._room
        self._room[:] = 0
        self._full = self._promised = 0


@lru_cache(maxsize=2)
def positions(exact: bool) -> Floats:
    """The value that stands for each bin, ascending: its only value where types are `exact` in 16 bits, else its middle."""
    bits = _ORDER.astype(np.uint32) << np.uint32(16)
    if not exact:
        bits[_ORDER != 0] |= np.uint32(_HALF_BIN)  # zero stays zero: most bins near it are empty, and equal values differ by it
    with np.errstate(invalid="ignore"):  # bins of NaN, which are never filled
        found = np.asarray(bits.view(np.float32), np.float64)
    found.setflags(write=False)
    return found


def counted(values: Singles) -> Counts:
    """Counts of contiguous float32 values, in the order of `positions`."""
    histogram = Histogram()
    histogram.add(values)
    return histogram.ordered()


def sorted_distances(a: Singles, b: Singles) -> tuple[float, float]:
    """Wasserstein-1 and Kolmogorov-Smirnov distance of two sets of one size, both in ascending order."""
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")
    merged = both[order]
    last = np.append(merged[1:] > merged[:-1], True)
    gap = np.cumsum(1 - 2 * (order >= a.size).astype(np.int8), dtype=np.int32)[last]
    return float(np.abs(a.astype(np.float64) - b).mean()), float(np.abs(gap).max()) / a.size


def distances(values: Floats, a: Counts, b: Counts) -> tuple[float, float]:
    """Wasserstein-1 and Kolmogorov-Smirnov distance of two sets given as counts at ascending values.

    W1 is the integral of |F_a - F_b|, KS its largest value.
    """
    there = np.flatnonzero(a + b)
    gap = np.abs(np.cumsum(a[there]) / a.sum() - np.cumsum(b[there]) / b.sum())
    return float(gap[:-1] @ np.diff(values[there])), float(gap.max())


def fullest_bin(a: Counts, b: Counts) -> float:
    """The largest share of values in one bin: what a distribution function may rise by unseen."""
    return float(max(a.max() / a.sum(), b.max() / b.sum()))


def quantile(values: Floats, counts: Counts, share: float) -> float:
    """The smallest position with at least `share` of the counts at or below it."""
    there = np.flatnonzero(counts)
    total = np.cumsum(counts[there])
    return float(values[there[int(np.searchsorted(total, int(np.ceil(share * total[-1]))))]])


def largest_but(values: Singles, share: float) -> float:
    """The smallest of some values that at least `share` of the others are no larger than: numpy's quantile by its method `higher`."""
    at = math.ceil(share * (values.size - 1))
    return float(np.partition(values, at)[at])
