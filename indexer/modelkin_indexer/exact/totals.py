"""Two tensors streamed past each other once: every statistic of `TensorComparison` but the spectrum of their difference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.exact import distributions
from modelkin_indexer.exact.compiled import CompiledSums, usable_for
from modelkin_indexer.exact.distributions import EXACT_NUMBERS, Histogram
from modelkin_indexer.exact.part_sums import Centre, PartSums, is_far_from_zero, part_rows
from modelkin_indexer.exact.units import are_sixteen_bits
from modelkin_indexer.places import Piece
from modelkin_indexer.results.exact import TensorComparison

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
TAIL = 0.99  # the quantile of absolute differences that was argued with in the 2026 dispute
PERMUTATIONS = 999  # sampled orders of a vector's channels: the smallest p-value they can give is 1/1000
PERMUTED_NUMBERS = 1 << 16  # longest vector that is permuted; vectors of a residual stream are far shorter
PERMUTATION_SEED = 20260103
CONSTANT_SPREAD = 1e-7  # sd below this share of the mean is rounding of a constant: nothing to correlate
CV_MEAN = 0.05  # |mean| / sd below which a coefficient of variation says nothing (matrices)


class Sides(Struct, frozen=True):
    """What two tensors are. `channel_axis` is the axis of the residual stream: 1 columns, 0 rows. With `permute`, vectors are permuted."""

    a: Piece
    b: Piece
    dtype_a: str
    dtype_b: str
    channel_axis: int
    permute: bool = True


class _Sums(NamedTuple):
    """Means and central moments of both sides, from plain sums."""

    n: int
    mean_a: float
    mean_b: float
    sd_a: float
    sd_b: float
    aa: float
    bb: float
    ab: float
    dd: float
    distance: float


class PairTotals:
    """Running totals over blocks of two tensors; `result` is what they come to.

    Tensors of up to EXACT_NUMBERS numbers are sorted, longer ones counted in histograms. Short ones, vectors and what lies far from 0 are
    summed in float64, others in float32 (see `part_sums`).
    """

    def __init__(self, sides: Sides, channels: int, numbers: int, distances: tuple[float, float] | None = None) -> None:
        """`distances`: Wasserstein-1 and Kolmogorov-Smirnov of two short tensors, where the caller has them."""
        self.sides, self._distances = sides, distances
        self._by_channel: Floats = np.zeros(channels)
        self._kept: list[tuple[Singles, Singles]] | None = [] if numbers <= EXACT_NUMBERS else None
        self._histograms = () if self._kept is not None else (Histogram(), Histogram(), Histogram())
        form = CompiledSums if usable_for(sides.dtype_a, sides.dtype_b) else PartSums
        self._sums = form(sides.dtype_a, sides.dtype_b)

    @property
    def squared_distance(self) -> float:
        return float(self._sums.values[5])

    @property
    def squared_length(self) -> float:
        """Of A."""
        return float(self._sums.values[2])

    @property
    def rounding(self) -> float:
        """The energy that a change to the coarser type leaves in the difference."""
        return float(self._sums.values[7]) / 12

    def add(self, start: int, a: Singles, b: Singles) -> None:
        """Take in rows [start, start + len(a)) of both, contiguous, of numbers no larger than `usable.LARGEST`."""
        rows = self.sides.channel_axis == 0
        wide = self._kept is not None or self.sides.a.is_vector or is_far_from_zero(a) or is_far_from_zero(b)
        centre = Centre.of_rows(a, b, wide) if rows else None
        step = part_rows(a.shape[1])
        for first in range(0, len(a), step):
            part = slice(first, first + step)
            channels = self._sums.add(a[part], b[part], centre, self._histograms, wide)
            target = self._by_channel[start + first : start + first + len(channels)] if rows else self._by_channel
            target += channels
        if centre is not None:
            self._sums.add_product(centre)
        if self._kept is not None:
            self._kept.append((a.reshape(-1).copy(), b.reshape(-1).copy()))

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self._sums.values).all())

    def result(self) -> TensorComparison:
        """The statistics of everything added so far."""
        s = self._moments()
        spread = s.sd_a * s.sd_b
        varies = s.sd_a > CONSTANT_SPREAD * abs(s.mean_a) and s.sd_b > CONSTANT_SPREAD * abs(s.mean_b) and spread > 0
        pearson = min(1.0, max(-1.0, (s.ab / s.n - s.mean_a * s.mean_b) / spread)) if varies else None
        if varies and self._sums.equal == s.n:
            pearson = 1.0  # without the rounding of sums
        lengths = math.sqrt(s.aa * s.bb)
        channel_t, channels = _student(self._by_channel) if varies else (None, 0)
        exceeded, permutations = self._permuted(pearson)
        wasserstein, kolmogorov, error, tail = self._distributions()
        sides, place = self.sides, self.sides.a.place
        return TensorComparison(
            a=sides.a.views[0].tensor,
            b=sides.b.views[0].tensor,
            component=place.component,
            layer=place.layer,
            layer_b=sides.b.place.layer,
            family=place.family,
            role=place.role,
            n=s.n,
            dtype_a=sides.dtype_a,
            dtype_b=sides.dtype_b,
            mean_a=s.mean_a,
            sd_a=s.sd_a,
            mean_b=s.mean_b,
            sd_b=s.sd_b,
            cosine=self._cosine(s, lengths),
            cosine_floor=s.mean_a * s.mean_b * s.n / lengths if lengths > 0 else None,
            pearson=pearson,
            channel_t=channel_t,
            channels=channels,
            permutations=permutations,
            exceeded=exceeded,
            relative_l2=math.sqrt(s.dd / s.aa) if s.aa > 0 else None,
            equal_fraction=self._sums.equal / s.n,
            half_unit_fraction=self._sums.within / s.n,
            mean_abs_difference=s.distance / s.n,
            p99_abs_difference=tail,
            cv_difference=_variation_difference(s),
            variance_ratio=(s.sd_b / s.sd_a) ** 2 if s.sd_a > 0 else None,
            wasserstein=wasserstein / s.sd_a if s.sd_a > 0 else None,
            kolmogorov=kolmogorov,
            distribution_error=error,
        )

    def _moments(self) -> _Sums:
        a, b, aa, bb, ab, dd, distance, _ = self._sums.values.tolist()
        n = self._sums.n
        mean_a, mean_b = a / n, b / n
        sd_a, sd_b = math.sqrt(max(aa / n - mean_a**2, 0.0)), math.sqrt(max(bb / n - mean_b**2, 0.0))
        return _Sums(n, mean_a, mean_b, sd_a, sd_b, aa, bb, ab, dd, distance)

    def _cosine(self, s: _Sums, lengths: float) -> float | None:
        if lengths <= 0:
            return None
        return 1.0 if self._sums.equal == s.n else min(1.0, max(-1.0, s.ab / lengths))

    def _permuted(self, pearson: float | None) -> tuple[int, int]:
        """How often sampled orders of a vector's entries reach |pearson|, and how many were tried."""
        vector = self.sides.permute and self.sides.a.is_vector and self._sums.n <= PERMUTED_NUMBERS
        if pearson is None or self._kept is None or not vector:
            return 0, 0
        a, b = (np.concatenate([part[side] for part in self._kept]).astype(np.float64) for side in (0, 1))
        a, b = a - a.mean(), b - b.mean()
        seen = abs(float(a @ b)) * (1 - 1e-12)
        random = np.random.default_rng(PERMUTATION_SEED)
        return sum(abs(float(a @ random.permutation(b))) >= seen for _ in range(PERMUTATIONS)), PERMUTATIONS

    def _distributions(self) -> tuple[float, float, float, float]:
        """Wasserstein-1, Kolmogorov-Smirnov, the error bound of the latter, and the tail of absolute differences."""
        if self._kept is not None:
            a, b = (np.concatenate([part[side] for part in self._kept]) for side in (0, 1))
            w1, ks = self._distances or distributions.sorted_distances(np.sort(a), np.sort(b))
            return w1, ks, 0.0, distributions.largest_but(np.abs(b - a), TAIL)
        exact = are_sixteen_bits(self.sides.dtype_a, self.sides.dtype_b)
        count_a, count_b, count_d = (histogram.ordered() for histogram in self._histograms)
        w1, ks = distributions.distances(distributions.positions(exact), count_a, count_b)
        error = 0.0 if exact else distributions.fullest_bin(count_a, count_b)
        return w1, ks, error, distributions.quantile(distributions.positions(exact=False), count_d, TAIL)


def _student(parts: Floats) -> tuple[float | None, int]:
    """Student's t of the mean of the channels' parts, and their number."""
    parts = parts[parts != 0]  # channels that are constant on a side take no part
    if parts.size < 3:
        return None, 0
    error = float(parts.std(ddof=1)) / math.sqrt(parts.size)
    return (float(parts.mean()) / error if error > 0 else None), int(parts.size)


def _variation_difference(s: _Sums) -> float | None:
    """|sd/mean of A - sd/mean of B|, where means are far enough from 0."""
    if abs(s.mean_a) < CV_MEAN * s.sd_a or abs(s.mean_b) < CV_MEAN * s.sd_b or s.mean_a == 0 or s.mean_b == 0:
        return None
    return abs(s.sd_a / abs(s.mean_a) - s.sd_b / abs(s.mean_b))
