"""Statistics of a matrix that tell a random start from what training leaves; their nulls stand in `results/start_nulls.py`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.start_nulls import WIDE_ENOUGH

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
SHARE = 16  # of each block of rows the first sixteenth is looked at where all would cost time (a pass over all: a quarter of level full)
SMALL = 1 << 20  # numbers up to which all rows are looked at
NOTHING = float("nan")
CANCELLED = float(np.finfo(np.float32).eps)  # of the fourth moment: sums in single precision end there, a smaller difference is chance


class Statistics(Struct, frozen=True):
    """As in `Matrices`: `seen` rows, kurtosis and column_spread over them, row_spread over all rows given."""

    seen: int
    kurtosis: float
    column_spread: float
    row_spread: float


class Moments:
    """Sums over the blocks of rows of one matrix. Rows of zeros (as rows without a finite number are read) are left out."""

    def __init__(self, numbers: int, columns: int) -> None:
        """`numbers` in the whole matrix decide whether all rows are looked at or a share of each block."""
        self._share = 1 if numbers <= SMALL else SHARE
        self._ones = np.ones(columns, np.float32)
        self._row_squares: list[Singles] = []
        self._scale = 0.0
        self._sums = np.zeros(4)  # of x, x^2, x^3, x^4 over the rows seen, x in units of 1 / scale
        self._columns = np.zeros(columns)
        self.seen_rows = self.rows = 0  # rows that are not zero, of those seen and of all
        self.total = self.squares = 0.0

    def seen(self, block: Singles) -> Singles:
        """The rows of a block that are looked at."""
        return block[: -(-len(block) // self._share)]

    def add(self, block: Singles) -> None:
        """Take in whole rows. `squares` is no finite number where a value is none or is too large, of which numpy is not to warn."""
        row_sums, row_squares = block @ self._ones, np.linalg.vecdot(block, block)
        self.total += float(row_sums.sum(dtype=np.float64))
        self.squares += float(row_squares.sum(dtype=np.float64))
        self._row_squares.append(row_squares)
        self.rows += int(np.count_nonzero(row_squares))
        if math.isfinite(self.squares) and self.squares > 0:
            self._look(block, row_sums, row_squares)

    def _look(self, block: Singles, row_sums: Singles, row_squares: Singles) -> None:
        """Higher moments and columns, in units near the values' size, so that their fourth powers are numbers in single precision."""
        if not self._scale:
            self._scale = float(2.0 ** -np.round(np.log2(np.sqrt(self.squares / block.size))))
        values = self.seen(block) * np.float32(self._scale)
        squares = values * values
        flat, flat_squares = values.reshape(-1), squares.reshape(-1)
        self._columns += np.add.reduce(squares, 0)
        first = float(row_sums[: len(values)].sum(dtype=np.float64)) * self._scale
        second = float(row_squares[: len(values)].sum(dtype=np.float64)) * self._scale**2
        self._sums += np.array([first, second, float(flat @ flat_squares), float(flat_squares @ flat_squares)])
        self.seen_rows += int(np.count_nonzero(row_squares[: len(values)]))

    def statistics(self) -> Statistics:
        """Of all that was taken in."""
        rows = np.concatenate(self._row_squares).astype(np.float64)
        return Statistics(self.seen_rows, self._kurtosis(), log_spread(self._columns), log_spread(rows))

    def _kurtosis(self) -> float:
        """0 of numbers that differ by no more than sums in single precision tell: the fourth central moment would be rounding alone."""
        count = self.seen_rows * len(self._columns)
        if not count:
            return 0.0
        mean, second, third, fourth = self._sums / count
        variance = second - mean**2
        if variance <= 0 or variance**2 <= CANCELLED * fourth:
            return 0.0
        return float((fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / variance**2)


def log_spread(squares: Floats) -> float:
    """Standard deviation of the logarithms of norms, from their squares; norms of 0 are left out, NaN where fewer than two are left."""
    positive = squares[squares > 0]
    return float(np.log(positive).std()) / 2 if len(positive) > 1 else NOTHING


def quantiles(values: Singles, count: int) -> Floats:
    """`count` quantiles, the smallest and the largest number among them, in even steps of rank: those of np.quantile, a third of its time.

    The first call of that imports numpy.ma as well, a fiftieth of a second.
    """
    ordered = np.sort(values, axis=None)
    at = np.linspace(0, 1, count) * (ordered.size - 1)
    below = np.floor(at).astype(np.intp)
    low, high = ordered[below], ordered[np.minimum(below + 1, ordered.size - 1)]
    share, step = at - below, high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


def whiteness(gram: Floats, directions: Singles, freedom: int) -> float:
    """Level full: how far G = D'W'WD is from what W of `freedom` rows of independent numbers gives, in units of what it gives on average.

    With L L' = D'D (gains folded into D included) L^-1 G L^-T is then Wishart distributed with identity covariance, and the sum of the
    squares of its deviations from a multiple of the identity is (k - 1)(k + 2) variance^2 freedom on average.
    """
    size, count = directions.shape
    if size < WIDE_ENOUGH or freedom < 1:
        return NOTHING
    wide = directions.astype(np.float64)
    try:
        root = np.linalg.cholesky(wide.T @ wide)
    except np.linalg.LinAlgError:
        return NOTHING
    white = np.linalg.solve(root, np.linalg.solve(root, gram).T)
    level = float(np.trace(white)) / count
    if level <= 0:
        return NOTHING
    deviation = float(np.sum((white - level * np.eye(count)) ** 2))
    return float(deviation * freedom / (level**2 * (count - 1) * (count + 2)))


def row_correlation(rows: Singles) -> float:
    """Level probe: the mean square of the correlations between sampled rows, in units of what independent numbers give (1 / columns)."""
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.sum(wide**2, axis=1))
    units = wide[norms > 0] / norms[norms > 0, None]
    if len(units) < 2 or units.shape[1] < WIDE_ENOUGH:
        return NOTHING
    above = np.triu_indices(len(units), 1)
    return float(np.mean((units @ units.T)[above] ** 2) * units.shape[1])
