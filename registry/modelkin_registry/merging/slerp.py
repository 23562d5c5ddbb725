"""Spherical interpolation of two models, tensor by tensor: linear, but with weights that do not sum to one where the two differ much.

slerp(t; a, b) = sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b with w the angle between a and b (Shoemake 1985). Tools fall back to the
straight line where a and b are nearly parallel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_registry.merging.fit import Fit
from modelkin_registry.merging.table import Table

Floats = npt.NDArray[np.float64]
PARALLEL = 0.9995  # cosine from which the straight line is taken, as merging tools do
STEP = 1e-4  # for the second derivative of what is left: the curvature that the standard error needs


def slerp_fit(table: Table) -> Fit:
    """The fraction t that leaves least over all places, as weights (1 - t, t)."""
    from scipy.optimize import minimize_scalar  # slow to import, and only merges need it

    t = float(minimize_scalar(lambda t: float(_left(table, t).sum()), bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-7}).x)
    below, at, above = (_left(table, t + step) for step in (-STEP, 0.0, STEP))
    slopes = (above - below) / (2 * STEP)
    curvature = float((above - 2 * at + below).sum()) / STEP**2
    error = float(np.sqrt(slopes @ slopes)) / max(curvature, float(np.finfo(np.float64).tiny))
    return Fit(np.array([1 - t, t]), np.array([error, error]), np.maximum(at, 0.0))


def _left(table: Table, t: float) -> Floats:
    """(places,) squares left by the spherical mix at t."""
    p = table.products
    size = np.sqrt(np.maximum(p[:, 0, 0] * p[:, 1, 1], np.finfo(np.float64).tiny))
    cosine = np.clip(p[:, 0, 1] / size, -1.0, 1.0)
    bent = np.abs(cosine) <= PARALLEL
    angle = np.where(bent, np.arccos(cosine), 1.0)
    first = np.where(bent, np.sin((1 - t) * angle) / np.sin(angle), 1 - t)
    second = np.where(bent, np.sin(t * angle) / np.sin(angle), t)
    mix = np.stack([first, second, -np.ones_like(first)], axis=1)
    return np.asarray(np.einsum("pi,pij,pj->p", mix, p, mix))
