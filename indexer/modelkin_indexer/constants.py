"""Tables and buffers that are never evidence, recognised by what they hold: bit-identical between strangers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
TABLE_TOLERANCE = 2e-2  # largest difference to a regenerated table: half-precision storage of values in [-1, 1] stays far below


def constant_reason(rows: Singles, row_numbers: npt.NDArray[np.int64]) -> str:
    """Why these rows (n, columns) of a table are no evidence; "" if they may be weights. `row_numbers` are their positions."""
    if rows.size == 0 or np.ptp(rows) == 0:
        return "all values are equal"
    if np.isin(rows, (0.0, 1.0)).all():
        return "only zeros and ones (a mask)"
    if _is_sinusoidal(rows, row_numbers):
        return "sinusoidal positions (a fixed table)"
    return ""


def _is_sinusoidal(rows: Singles, positions: npt.NDArray[np.int64]) -> bool:
    """Whether the rows follow sin/cos of position x geometric frequencies, halves or interleaved, either common spacing."""
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
