"""Tables and buffers that are never evidence, recognised by what they hold: bit-identical between strangers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
TABLE_TOLERANCE = 2e-2  # largest difference to a regenerated table: half-precision storage of values in [-1, 1] stays far below
FOURIER_COLUMNS = 32  # shortest frame taken for a Fourier basis: below, a few bins are a large share of all
FOURIER_BINS = 2  # bins to each side of a row's own that a window spreads it over (Hann: 1)
SILENCE = 1e-9  # energy beside the largest row's below which a row is taken for zeros: rounding of sin(pi n) leaves 1e-14
FOURIER_ENERGY = 0.99  # share of a row's energy in those bins from which it is a windowed wave; random rows of 32 numbers: 0.3


ROTARY_BASES = (10_000.0, 500_000.0, 1_000_000.0)  # theta of nearly all published models
LEAST_VALUES = 8  # shortest vector taken for a table: fewer numbers look geometric by chance
GEOMETRIC_ERROR = 6e-3  # of a logarithm: bfloat16 keeps 8 bits, an error of 2^-9 in the value, twice that in a fitted line
LEAST_DECAY = 4.0  # of a logarithm, from the first frequency to the last: theta 10000 over 64 numbers gives 9


def vector_reason(values: Singles) -> str:
    """Why a vector of unknown meaning is a fixed table; "" if it may be weights."""
    if values.size < LEAST_VALUES:
        return ""
    if _is_counted(values):
        return "positions counted up (an index table)"
    if _is_geometric(values):
        return "rotary frequencies (a fixed table)"
    return ""


def integer_reason(rows: Singles) -> str:
    """Why whole numbers (all rows of a table) are an index table or a mask; "" if they may be packed weights."""
    if rows.size and np.ptp(rows) == 0:
        return "all values are equal"
    if rows.shape[1] >= LEAST_VALUES and all(_is_counted(row) for row in rows):
        return "positions counted up (an index table)"
    return "causal mask (one value up to the diagonal)" if _is_causal(rows, np.arange(len(rows))) else ""


def _is_counted(values: Singles) -> bool:
    return bool(np.array_equal(values - values[0], np.arange(values.size, dtype=np.float32)))


def _is_geometric(values: Singles) -> bool:
    """1, r, r^2, ...: theta^(-2 i / d), as `inv_freq` holds it."""
    if values.min() <= 0 or abs(float(values[0]) - 1) > GEOMETRIC_ERROR:
        return False
    logarithms, index = np.log(values.astype(np.float64)), np.arange(values.size)
    slope = (index @ logarithms) / (index @ index)
    return bool(slope * index[-1] <= -LEAST_DECAY and np.abs(logarithms - slope * index).max() <= GEOMETRIC_ERROR)


def _is_causal(rows: Singles, row_numbers: npt.NDArray[np.int64]) -> bool:
    """One value up to the diagonal, another beyond it; a mask of one row shows nothing."""
    allowed = np.arange(rows.shape[1]) <= row_numbers[:, None]
    if len(rows) < 2 or allowed.all() or rows.shape[1] < LEAST_VALUES:
        return False
    return bool(np.ptp(rows[allowed]) == 0 and np.ptp(rows[~allowed]) == 0 and rows[allowed][0] != rows[~allowed][0])


def constant_reason(rows: Singles, row_numbers: npt.NDArray[np.int64]) -> str:
    """Why these rows (n, columns) of a table are no evidence; "" if they may be weights. `row_numbers` are their positions."""
    if rows.size == 0 or np.ptp(rows) == 0:
        return "all values are equal"
    if np.isin(rows, (0.0, 1.0)).all():
        return "only zeros and ones (a mask)"
    if _is_causal(rows, row_numbers):
        return "causal mask (one value up to the diagonal)"
    if _is_rotary(rows, row_numbers):
        return "sines or cosines of positions (a rotary table)"
    if _is_sinusoidal(rows, row_numbers):
        return "sinusoidal positions (a fixed table)"
    if _is_fourier(rows, row_numbers):
        return "windowed Fourier basis (a fixed table)"
    return ""


def _is_sinusoidal(rows: Singles, positions: npt.NDArray[np.int64]) -> bool:
    """Whether the rows follow sin/cos of position x geometric frequencies, halves or interleaved, either common spacing.

    Rows of zeros stand for padding and are passed over.
    """
    written = rows.any(axis=1)
    rows, positions = rows[written], positions[written]
    columns = rows.shape[1]
    half = columns // 2
    if columns % 2 or half < 2 or np.abs(rows).max() > 1 + TABLE_TOLERANCE:
        return False
    for spacing in (half - 1, half):
        angles = positions[:, None] * np.exp(-np.log(10000.0) / spacing * np.arange(half))
        sine, cosine = np.sin(angles), np.cos(angles)
        interleaved = np.stack([sine, cosine], axis=-1).reshape(len(rows), columns)
        for table in (np.hstack([sine, cosine]), np.hstack([cosine, sine]), interleaved):
            if np.abs(table - rows).max() < TABLE_TOLERANCE:
                return True
    return False


def _is_rotary(rows: Singles, positions: npt.NDArray[np.int64]) -> bool:
    """Cosines or sines of position x frequencies, once or twice side by side, as rotary embeddings are cached."""
    columns = rows.shape[1]
    twice = columns % 2 == 0 and bool(np.array_equal(rows[:, : columns // 2], rows[:, columns // 2 :]))
    table = rows[:, : columns // 2] if twice else rows
    if table.shape[1] < LEAST_VALUES or np.abs(table).max() > 1 + TABLE_TOLERANCE:
        return False
    for base in ROTARY_BASES:
        angles = positions[:, None] * np.exp(-np.log(base) / table.shape[1] * np.arange(table.shape[1]))
        if min(np.abs(np.cos(angles) - table).max(), np.abs(np.sin(angles) - table).max()) < TABLE_TOLERANCE:
            return True
    return False


def _is_fourier(rows: Singles, row_numbers: npt.NDArray[np.int64]) -> bool:
    """Whether each row is a windowed cosine or sine of its own frequency: the basis that audio models transform frames with.

    Cosines may stand above the sines or take turns with them. Any window will do: it only spreads a wave over neighbouring bins.
    """
    columns = rows.shape[1]
    if columns < FOURIER_COLUMNS or columns % 2:
        return False
    bins = columns // 2 + 1
    energy = np.abs(np.fft.rfft(rows.astype(np.float64), axis=1)) ** 2
    total = energy.sum(axis=1)
    silent = total <= SILENCE * total.max()
    for frequencies in (row_numbers % bins, row_numbers // 2):
        no_sine = silent & ((frequencies == 0) | (frequencies == bins - 1))  # sines of the lowest and the highest frequency are zeros
        near = np.abs(np.arange(bins) - frequencies[:, None]) <= FOURIER_BINS
        waves = ~silent & (np.where(near, energy, 0.0).sum(axis=1) >= FOURIER_ENERGY * total)
        if (waves | no_sine).all():
            return True
    return False
