"""All that an exact comparison adds up, over parts of two tensors that stay in a core's cache.

Products are made in the precision of the part and summed in it over runs; the sums of the runs are added in float64. In float32 that keeps
correlations to about 1e-7 (runs of independent rounding errors), at a quarter of the time of float64 throughout.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.exact.distributions import Histogram
from modelkin_indexer.exact.units import coarser

Floats = npt.NDArray[np.float64]
Part = npt.NDArray[Any]  # float32 (float64 within a wide sum), (rows, columns)
PART_NUMBERS = 1 << 18  # numpy's calls cost as much as 30,000 numbers; larger parts leave the caches
RUN = 64  # numbers added in the precision of the part, by one accumulator ...
LOOKED_AT = 64  # one number in so many says where the others lie
FAR = 1.0  # |mean| / sd: float32 keeps correlations to 1e-7 times the square of this
SQUARES_RUN = 256  # ... and by several


class Centre(Struct, frozen=True):
    """What is taken off before products are made: the mean of each column over `rows` rows."""

    a: Part
    b: Part
    rows: int

    @classmethod
    def of_rows(cls, a: Part, b: Part, wide: bool = False) -> Centre:
        """The means of all rows of a block, `wide` in float64."""
        ones = np.full(len(a), 1 / len(a), np.float64 if wide else a.dtype)
        return cls(ones @ a, ones @ b, len(a))

    @property
    def product(self) -> float:
        """What centring took off the sum of products."""
        return self.rows * float(self.a.astype(np.float64) @ self.b.astype(np.float64))


def is_far_from_zero(rows: Part) -> bool:
    """Whether numbers lie so far from 0 for their spread that float32 sums lose what centring leaves."""
    some = rows.reshape(-1)[::LOOKED_AT].astype(np.float64)
    return bool(abs(float(some.mean())) > FAR * float(some.std()))


def part_rows(columns: int) -> int:
    """Rows of a part."""
    return max(1, PART_NUMBERS // columns)


class PartSums:
    """Sums over everything added. `values` are of A, B, A squared, B squared, A times B, (B - A) squared, |B - A|, and the
    coarser units squared.
    """

    def __init__(self, dtype_a: str, dtype_b: str) -> None:
        self.dtypes = dtype_a, dtype_b
        self.values: Floats = np.zeros(8)
        self.n = self.equal = self.within = 0

    def add(self, a: Part, b: Part, centre: Centre | None, histograms: tuple[Histogram, ...], wide: bool = False) -> Floats:
        """Take in a part, count a, b and |b - a| in the histograms if there are any, and return each channel's centred product.

        Channels are the columns, and rows are centred; with a `centre` they are the rows, and its product has to be added once. With
        `wide`, products and sums are float64 throughout, and so has to be the centre.
        """
        if wide:
            a, b = a.astype(np.float64), b.astype(np.float64)
        d = np.abs(np.subtract(b, a))
        if centre is None:
            products, channels, taken_off = _by_column(a, b)
        else:
            products = (a - centre.a) * (b - centre.b)
            channels, taken_off = products @ _ones(products.shape[1], a.dtype), 0.0
        self.n += a.size
        ab = float(channels.sum(dtype=np.float64)) + taken_off
        a, b, d = a.reshape(-1), b.reshape(-1), d.reshape(-1)
        self.equal += d.size - int(np.count_nonzero(d.view(f"i{d.itemsize}")))
        units = coarser(*self.dtypes, np.maximum(np.abs(a), np.abs(b)).astype(np.float32, copy=False))
        self.within += int(np.count_nonzero(d <= 0.5 * units))
        self.values += (_total(a), _total(b), _squares(a), _squares(b), ab, _squares(d), _total(d), _squares(units))
        for histogram, numbers in zip(histograms, (a, b, d), strict=bool(histograms)):
            histogram.add(numbers.astype(np.float32, copy=False))
        return channels.astype(np.float64)

    def add_product(self, centre: Centre) -> None:
        """Add what centring over rows took off."""
        self.values[4] += centre.product


def _by_column(a: Part, b: Part) -> tuple[Part, Part, float]:
    """Products of rows that are centred, their sums by column, and what centring took off all together."""
    columns = a.shape[1]
    ones = _ones(columns, a.dtype)
    first, second = (a @ ones) / columns, (b @ ones) / columns
    products = a - first[:, None]
    products *= b - second[:, None]
    taken_off = columns * float(first.astype(np.float64) @ second.astype(np.float64))
    return products, _ones(len(a), a.dtype) @ products, taken_off


@lru_cache(maxsize=64)
def _ones(count: int, dtype: Any) -> Part:
    ones = np.ones(count, dtype)
    ones.flags.writeable = False
    return ones


def _total(values: Part) -> float:
    """The sum of a flat part."""
    whole = values.size // RUN * RUN
    runs = _ones(RUN, values.dtype) @ values[:whole].reshape(RUN, -1)
    return float(runs.sum(dtype=np.float64)) + float(values[whole:].sum(dtype=np.float64))


def _squares(values: Part) -> float:
    """The sum of the squares of a flat part."""
    whole = values.size // SQUARES_RUN * SQUARES_RUN
    runs = values[:whole].reshape(-1, SQUARES_RUN)
    return float(np.vecdot(runs, runs).sum(dtype=np.float64)) + float(np.square(values[whole:], dtype=np.float64).sum())
