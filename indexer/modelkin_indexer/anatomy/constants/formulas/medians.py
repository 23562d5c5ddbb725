"""Medians and different ones of finite numbers. The first call of np.median or np.unique imports numpy.ma, a fiftieth of a second that no
table is worth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def median(values: npt.NDArray[Any]) -> float:
    """Of all values; NaN of none."""
    return float(medians(values.reshape(1, -1))[0]) if values.size else float("nan")


def medians(rows: npt.NDArray[Any]) -> Floats:
    """Of each row (rows, n), n at least 1."""
    half = rows.shape[1] // 2
    if rows.shape[1] % 2:
        return np.asarray(np.partition(rows, half, axis=1)[:, half], np.float64)
    return np.asarray(np.partition(rows, (half - 1, half), axis=1)[:, half - 1 : half + 1].mean(axis=1), np.float64)


def different(values: npt.NDArray[Any]) -> int:
    """How many different values there are."""
    ordered = np.sort(values, axis=None)
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + min(1, ordered.size)
