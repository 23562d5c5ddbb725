"""Which parents: the best pair, then one more as long as it explains something, each time exchanging what another explains better.

Each place has weights of its own here, so that weights that change with depth cost nothing: of 128 numbers a place, a wrong parent
explains one in 128 by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from modelkin_registry.merging.fit import left_by_pairs, left_by_place

Floats = npt.NDArray[np.float64]
LARGEST = 6  # parents at most
WORTH = 0.05  # share of what is left that one more parent must explain for the search to go on; siblings explain 0.02 to 0.25


def parent_sets(away: Floats) -> Iterator[tuple[int, ...]]:
    """The best sets of two, three, ... parents, in sorted order, while they explain more."""
    count = away.shape[1]
    if count < 2:
        return
    pairs = left_by_pairs(away)
    chosen = _best_pair(pairs)
    left = float(pairs[chosen])
    single = float(np.diagonal(away.sum(axis=0)).min())
    while left < (1 - WORTH) * single:
        yield tuple(sorted(chosen))
        if len(chosen) == min(LARGEST, count):
            return
        single, (chosen, left) = left, _exchanged(away, *_grown(away, chosen))


def _best_pair(pairs: Floats) -> tuple[int, ...]:
    upper = np.where(np.triu(np.ones_like(pairs, dtype=bool), 1), pairs, np.inf)
    first, second = np.unravel_index(int(np.argmin(upper)), upper.shape)
    return int(first), int(second)


def _grown(away: Floats, chosen: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    return _least(away, [(*chosen, other) for other in range(away.shape[1]) if other not in chosen])


def _exchanged(away: Floats, chosen: tuple[int, ...], left: float) -> tuple[tuple[int, ...], float]:
    """Swap single parents for better ones until none is."""
    while True:
        others = [other for other in range(away.shape[1]) if other not in chosen]
        swaps = [(*(c for c in chosen if c != old), new) for old, new in product(chosen, others)]
        found, less = _least(away, swaps) if swaps else (chosen, left)
        if less >= left * (1 - 1e-9):
            return chosen, left
        chosen, left = found, less


def _least(away: Floats, sets: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], float]:
    found = [(left_of(away, chosen), tuple(sorted(chosen))) for chosen in sets]
    left, best = min(found)
    return best, left


def left_of(away: Floats, chosen: Sequence[int]) -> float:
    """Squares that these parents leave, every place with weights of its own."""
    at = np.asarray(chosen, np.int64)
    if len(at) == 1:
        return float(away[:, at[0], at[0]].sum())
    return float(left_by_place(away[:, at][:, :, at]).sum())
