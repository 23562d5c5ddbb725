"""Weights that sum to one by least squares on sketches, with the errors that follow from how places differ.

With c_i = (parent i - query), a mix with weights w leaves |sum w_i c_i|^2 = w'Cw, where C holds the inner products of the c_i. Numbers
within a place share rounding and one layer's history, so errors are clustered by place (Liang and Zeger 1986; small-sample factor
P / (P - parameters)).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec

Floats = npt.NDArray[np.float64]
RIDGE = 1e-12  # of the mean square: keeps a fit of equal parents solvable, and changes no other


class Fit(Struct, frozen=True):
    """Weights (sum 1), their standard errors, and the squares left in each place as a share of the query's there."""

    weights: Floats
    errors: Floats
    left: Floats

    @property
    def residual(self) -> float:
        """Length left unexplained / the query's length, over all places."""
        return float(np.sqrt(np.mean(self.left))) if self.left.size else 0.0


def fit(away: Floats, *, positive: bool = False, numbers: int = spec.PROBE_NUMBERS) -> Fit:
    """One set of weights for all places. `away` is (places, parents, parents); `positive` keeps weights from falling below zero.

    `numbers` is how many a place's sketch has: with few places, errors are not below what independent numbers would give.
    """
    total = away.sum(axis=0)
    weights = _positive(total) if positive else affine(total)
    left = np.maximum(np.einsum("i,pij,j->p", weights, away, weights), 0.0)
    free = np.flatnonzero(weights) if positive else np.arange(len(weights))
    errors = np.zeros(len(weights))
    errors[free] = _errors(away[:, free][:, :, free], weights[free], float(left.sum()), numbers)
    return Fit(weights, errors, left)


@np.errstate(over="ignore")  # in a place where all are equal any weights leave nothing
def affine(away: Floats) -> Floats:
    """Weights with sum one that leave least, for one matrix of products or a stack of them."""
    count = away.shape[-1]
    ridge = RIDGE * np.trace(away, axis1=-2, axis2=-1)[..., None] / count + np.finfo(np.float64).tiny
    solved = np.linalg.solve(away + ridge[..., None] * np.eye(count), np.ones((*away.shape[:-1], 1)))[..., 0]
    return np.asarray(solved / solved.sum(axis=-1, keepdims=True))


def left_by_place(away: Floats) -> Floats:
    """(places,) squares that each place's own best weights leave."""
    weights = affine(away)
    return np.asarray(np.maximum(np.einsum("...i,...ij,...j->...", weights, away, weights), 0.0), np.float64)


def left_by_pairs(away: Floats) -> Floats:
    """(parents, parents) squares that the best mix of each pair leaves, every place with weights of its own; singles on the diagonal."""
    single = np.einsum("pii->pi", away)
    apart = single[:, :, None] + single[:, None, :] - 2 * away
    gain = (single[:, None, :] - away) ** 2 / np.maximum(apart, np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(single[:, None, :] - gain, 0.0).sum(axis=0))


def _positive(total: Floats) -> Floats:
    """The same with no weight below zero. min |Lw| with sum(w) = 1 has the direction of min |Lw|^2 + (sum(w) - 1)^2, both over w >= 0."""
    from scipy.optimize import nnls  # slow to import, and only merges need it

    values, vectors = np.linalg.eigh(total / max(float(np.trace(total)), float(np.finfo(np.float64).tiny)))
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    weights, _ = nnls(np.vstack([root, np.ones(len(total))]), np.append(np.zeros(len(total)), 1.0))
    return np.asarray(weights / weights.sum())


def _errors(away: Floats, weights: Floats, left: float, numbers: int) -> Floats:
    """Standard errors of weights with sum one: clustered by place, and at least those of independent numbers."""
    places, count = away.shape[:2]
    if count < 2:
        return np.zeros(count)
    basis = np.vstack([np.eye(count - 1), -np.ones(count - 1)])  # free changes of the weights; the last takes up the rest
    inverse = np.linalg.pinv(basis.T @ away.sum(axis=0) @ basis)
    scores = (away @ weights) @ basis
    factor = places / max(places - count + 1, 1)
    clustered = factor * inverse @ (scores.T @ scores) @ inverse
    independent = left / max(places * numbers - count + 1, 1) * inverse
    spread = [np.diag(basis @ each @ basis.T) for each in (clustered, independent)]
    return np.asarray(np.sqrt(np.maximum(np.max(spread, axis=0), 0.0)))
