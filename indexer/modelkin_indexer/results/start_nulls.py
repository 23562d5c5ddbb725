"""What the statistics of a matrix are for independent numbers: mean and standard deviation of each, so that a start can be tested for.

Held against drawn matrices of many shapes by benchmarks/truth/start_statistics.py (benchmarks/results/start_statistics.json).
"""

from __future__ import annotations

import math
from functools import lru_cache

from msgspec import Struct

from modelkin_indexer import sketch, spec

Null = tuple[float, float]  # mean, standard deviation
SHAPES = 4096  # of matrices whose nulls are kept: models have few
WIDE_ENOUGH = 2 * spec.DIRECTIONS  # numbers a row has at least where `spectrum` is given: fewer do not tell 16 directions apart


class Start(Struct, frozen=True):
    """A distribution that libraries draw starts from.

    kurtosis           and `kurtosis_variance`: n times the variance of that of n numbers, m8 - 4 m4 m6 + 4 m4^3 - m4^2 of its moments
    second, third      the variance of the logarithm of a sum of n squares is that of a gamma distribution and second / n^2 + third / n^3:
                       2 (m4 - 1)^2 less the third cumulant of a square, and a fit to 4 million sums of 4 to 64 squares
    fourth             its kurtosis is that of a gamma distribution and fourth / n: a fit to the same
    """

    kurtosis: float
    kurtosis_variance: float
    second: float = 0.0
    third: float = 0.0
    fourth: float = 0.0


STARTS = {
    "normal": Start(3.0, 24.0),
    "uniform": Start(1.8, 1.317, 0.823, 2.6, 9.0),
    "normal truncated at 2 sd": Start(2.3655, 3.848, 1.354, 2.7, 5.7),
}


@lru_cache(maxsize=SHAPES)
def kurtosis_null(start: str, numbers: int) -> Null:
    """Of `kurtosis` over so many numbers (`seen` rows times columns)."""
    return STARTS[start].kurtosis, math.sqrt(STARTS[start].kurtosis_variance / numbers)


@lru_cache(maxsize=SHAPES)
def spread_null(start: str, norms: int, numbers: float) -> Null:
    """Of `row_spread` (`norms` rows of `numbers` columns) and `column_spread` (`norms` columns of `numbers` seen rows).

    A sum of n squares is nearly gamma distributed of shape a = n / (kurtosis - 1), of normal numbers exactly: its logarithm has the
    variance trigamma(a), about 1 / a, and half of that logarithm is the norm's.
    """
    drawn = STARTS[start]
    shape = numbers / (drawn.kurtosis - 1)
    variance = trigamma(shape) + drawn.second / numbers**2 + drawn.third / numbers**3
    tails = polygamma3(shape) / trigamma(shape) ** 2 + drawn.fourth / numbers + 3.0
    spread = math.sqrt(variance * (1 - 1 / norms)) / 2
    error = math.sqrt((tails - 1) / (4 * norms))  # relative, of the deviation of so many
    return spread * (1 - error**2 / 2), spread * error


@lru_cache(maxsize=SHAPES)
def spectrum_null(level: str, rows: int, columns: int, experts: int = 1) -> Null:
    """Of `spectrum`; `rows` are those of one expert. Skewed to the right as chi-square is: 3.6 sd above the mean once in 1,000.

    Level full: a sum of (k - 1)(k + 2) / 2 squares of nearly normal numbers for k directions, whatever the shape and the distribution.
    Level probe: pairs of sampled rows; the square of the correlation of two rows of n numbers has mean 1 / n.
    """
    if level == "full":
        return 1.0, math.sqrt(4 / ((spec.DIRECTIONS - 1) * (spec.DIRECTIONS + 2)))
    sampled = sketch.sampled_rows(rows, columns, experts)
    pairs = max(sampled * (sampled - 1) // 2, 1)
    return 1.0, math.sqrt(2 * (columns - 1) / ((columns + 2) * pairs))


def trigamma(x: float) -> float:
    """The second derivative of the logarithm of the gamma function, x > 0: by recursion to where its asymptotic series is exact."""
    below = 0.0
    while x < SERIES:
        below, x = below + 1 / x**2, x + 1
    return below + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5) + 1 / (42 * x**7)


def polygamma3(x: float) -> float:
    """Its second derivative."""
    below = 0.0
    while x < SERIES:
        below, x = below + 6 / x**4, x + 1
    return below + 2 / x**3 + 3 / x**4 + 2 / x**5 - 1 / x**7 + 4 / (3 * x**9)


SERIES = 8.0  # from here on the terms left out are below 1e-8
