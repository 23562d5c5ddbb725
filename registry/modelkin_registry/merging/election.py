"""Merges that keep the largest changes of each parent and elect signs (TIES, Yadav et al., arXiv 2306.01708), foretold tensor by tensor.

What such a merge makes of changes that are normally distributed follows from their sizes and their correlation, which sketches show, so
nothing is left free but the density and the parents' weights: the share that it keeps of each parent's change, and how much of what
it did is no such share. Training meets neither.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec

Floats = npt.NDArray[np.float64]
DENSITIES = (0.2, 0.35, 0.5, 0.7, 1.0)  # shares of each change kept, between which the forecast changes by less than its noise
BALANCES = (0.3, 0.4, 0.5, 0.6, 0.7)  # weight of the first of two parents; more parents are taken to weigh alike
DRAWS = 4096  # numbers drawn for a forecast: a share is off by 0.02, a quarter of what 128 numbers of a sketch leave open
PLACES = 4  # that are forecast at once: their numbers stay in a processor's cache
RIDGE = 1e-9  # of a change's square, so that two equal changes can be drawn


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def election_misfit(products: Floats) -> float:
    """Squared departures from the nearest forecast / what sampling gives: 1 for one that holds.

    `products` (places, parents + 1, parents + 1): inner products of the changes from the base, the model's own last. Infinite or NaN, so
    that none holds, where a parent or the model changed nothing in some place: what is there of its products is rounding.
    """
    own, across, square = products[:, :-1, :-1], products[:, :-1, -1], products[:, -1, -1]
    parents = own.shape[1]
    size = np.sqrt(np.maximum(np.einsum("pii->pi", own), np.finfo(np.float64).tiny))
    try:
        root = np.linalg.cholesky(_correlation(own, size)) * size[:, :, None]
    except np.linalg.LinAlgError:
        return math.inf
    normal = np.random.default_rng(0).standard_normal((parents, DRAWS))
    shares = np.einsum("pij,pj->pi", np.linalg.pinv(own), across)
    left = np.maximum(square - np.einsum("pi,pi->p", shares, across), np.finfo(np.float64).eps * square)
    freedom = spec.PROBE_NUMBERS - parents
    precision = own * (freedom / left)[:, None, None]
    starts = range(0, len(own), PLACES)
    forecasts = zip(*(_forecasts(root[at : at + PLACES] @ normal, size[at : at + PLACES]) for at in starts), strict=True)
    told = ([np.concatenate(parts) for parts in zip(*each, strict=True)] for each in forecasts)
    return min(_misfit(shares, left, precision, freedom, foretold, rest) for foretold, rest in told)


def _forecasts(drawn: Floats, size: Floats) -> list[tuple[Floats, Floats]]:
    """What a merge of each density and balance makes of changes that are drawn (places, parents, draws)."""
    spread = np.asarray(np.linalg.pinv(drawn @ drawn.transpose(0, 2, 1) / DRAWS), np.float64)
    balances = _balances(drawn.shape[1])
    return [_elected(drawn, spread, kept, weights) for kept in (_largest(drawn, size, one) for one in DENSITIES) for weights in balances]


def _balances(parents: int) -> list[Floats]:
    return [np.array([first, 1 - first]) for first in BALANCES] if parents == 2 else [np.ones(parents)]


def _correlation(own: Floats, size: Floats) -> Floats:
    return np.asarray(own / (size[:, :, None] * size[:, None, :]) * (1 - RIDGE) + RIDGE * np.eye(own.shape[1]))


def _largest(drawn: Floats, size: Floats, density: float) -> Floats:
    """The largest of normally distributed changes, as many as the density says; zeros in place of the others."""
    from scipy.special import ndtri  # slow to import, and only merges need it

    return np.where(np.abs(drawn) >= size[:, :, None] * float(ndtri(1 - density / 2)), drawn, 0.0)


def _elected(drawn: Floats, spread: Floats, largest: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """(places, parents) shares of each change that the merge keeps, and (places,) squares of the rest of it."""
    kept = largest * weights[:, None]
    agreeing = kept * np.sign(kept.sum(axis=1, keepdims=True)) > 0
    weight = np.matmul(weights, agreeing)
    made = np.where(agreeing, kept, 0.0).sum(axis=1) / np.maximum(weight, np.finfo(np.float64).tiny)
    across = (drawn @ made[:, :, None])[:, :, 0] / DRAWS
    shares = (spread @ across[:, :, None])[:, :, 0]
    return shares, np.einsum("pd,pd->p", made, made) / DRAWS - np.einsum("pi,pi->p", shares, across)


def _misfit(shares: Floats, left: Floats, precision: Floats, freedom: int, foretold: Floats, rest: Floats) -> float:
    apart = shares - foretold
    squares = np.einsum("pi,pij,pj->p", apart, precision, apart)
    logs = np.log(np.maximum(left, np.finfo(np.float64).tiny) / np.maximum(rest, np.finfo(np.float64).tiny))  # variance 2 / freedom
    return float((squares + logs**2 * freedom / 2).sum() / (len(left) * (apart.shape[1] + 1)))
