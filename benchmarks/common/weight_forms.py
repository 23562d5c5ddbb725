"""Forms in which trained weights are stored, each made of a plain tensor: rounded, pruned, ternary, of low rank, drawn out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
GROUP = 32
WIDEST = 1200  # columns of a matrix whose singular values are found


def _rows(values: Singles) -> Singles:
    return values.reshape(len(values), -1)


def _grouped(values: Singles, levels: int) -> Singles:
    """Groups of numbers rounded to `levels` steps to each side, as most quantisers do."""
    flat = values.reshape(-1).copy()
    whole = flat[: flat.size // GROUP * GROUP].reshape(-1, GROUP)
    scale = np.maximum(np.abs(whole).max(axis=1, keepdims=True), 1e-12) / levels
    flat[: whole.size] = (np.round(whole / scale) * scale).reshape(-1)
    return flat.reshape(values.shape)


def _one_scale(values: Singles, levels: int) -> Singles:
    scale = np.float32(max(float(np.abs(values).max()), 1e-12) / levels)
    return np.round(values / scale) * scale


def _pruned(values: Singles, share: float) -> Singles:
    return np.where(np.abs(values) > np.quantile(np.abs(values), share), values, np.float32(0))


def _ternary(values: Singles) -> Singles:
    size = np.float32(np.abs(values).mean())
    return np.clip(np.round(values / max(float(size), 1e-12)), -1, 1).astype(np.float32) * size


def _low_rank(values: Singles) -> Singles:
    matrix = _rows(values)
    if max(matrix.shape) > WIDEST:
        return values
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return ((u[:, :2] * s[:2]) @ v[:2]).astype(np.float32).reshape(values.shape)


def _drawn_out(values: Singles) -> Singles:
    """A table of positions made twice as long by interpolation."""
    matrix = _rows(values)
    at = np.arange(2 * len(matrix) - 1) / 2
    low, high = np.floor(at).astype(int), np.ceil(at).astype(int)
    return ((matrix[low] + matrix[high]) / 2).astype(np.float32)


FORMS: dict[str, Callable[[Singles], Singles]] = {
    "8 bits": lambda values: _grouped(values, 127),
    "4 bits": lambda values: _grouped(values, 7),
    "2 bits": lambda values: _grouped(values, 1),
    "4 bits, one scale": lambda values: _one_scale(values, 7),
    "ternary": _ternary,
    "signs": lambda values: np.where(values < 0, -1, 1).astype(np.float32) * np.float32(np.abs(values).mean()),
    "half pruned": lambda values: _pruned(values, 0.5),
    "nine tenths pruned": lambda values: _pruned(values, 0.9),
    "pruned to a hundredth": lambda values: _pruned(values, 0.99),
    "pruned and rounded": lambda values: _one_scale(_pruned(values, 0.9), 7),
    "pruned and ternary": lambda values: _ternary(_pruned(values, 0.97)),
    "rank 2": _low_rank,
    "drawn out": _drawn_out,
    "positive": np.abs,
}
