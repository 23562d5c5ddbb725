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


def constant_reason(rows: Singles, row_numbers: npt.NDArray[np.int64]) -> str:
    """Why these rows (n, columns) of a table are no evidence; "" if they may be weights. `row_numbers` are their positions."""
    if rows.size == 0 or np.ptp(rows) == 0:
        return "all values are equal"
    if np.isin(rows, (0.0, 1.0)).all():
        return "only zeros and ones (a mask)"
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
