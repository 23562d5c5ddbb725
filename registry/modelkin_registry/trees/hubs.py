"""Is the middle of a family its base, or one of its children that moved little? Exchangeable siblings look like a hub and its children.

Children of one base H change it independently, so correlations multiply along the way: r(i, j) = r(i, H) r(H, j). For a sibling S in the
place of H the product is smaller by r(S, base)^2, in every pair alike. So log r(i, j) - log r(i, H) - log r(H, j) is 0 for a base, and
twice the distance of a sibling from the base otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np
from msgspec import Struct

FEWEST = 3  # children whose pairs say whether their hub is their base: with two the one pair has no error
MOST = 12  # neighbours looked at, the nearest: 66 pairs
CHANCE_SD = 2.0  # standard errors of the excess that are chance
NO_SHARE = (
    1 / 16
)  # of the children's own way from the hub that the hub's way from a base may be, at the upper end: a quarter of their change, squared
SMALLEST_R = 1e-3  # below, a correlation is none, and its logarithm would be all noise
ROUNDING = 1e-9  # of logarithms


class HubTest(Struct, frozen=True):
    """`way`: the hub's own way from a common ancestor, as -log r; `error` its standard error; `children` the median of theirs."""

    way: float
    error: float
    children: float

    @property
    def is_base(self) -> bool:
        """Whether the neighbours may hang on it: its own way is none within chance, and small beside theirs even if it is not."""
        return self.way <= CHANCE_SD * self.error + ROUNDING and self.way + CHANCE_SD * self.error <= NO_SHARE * self.children

    @property
    def is_sibling(self) -> bool:
        """Whether it has certainly gone a way of its own from an ancestor that is not among its neighbours."""
        return self.way > CHANCE_SD * self.error + ROUNDING


def examined(hub: str, neighbours: Sequence[str], correlation: Callable[[str, str], float]) -> HubTest | None:
    """The test of one model in the middle of others; None with too few of them. `correlation` gives r, 0 where there is none."""
    way = {name: _length(correlation(hub, name)) for name in neighbours}
    nearest = sorted(way, key=lambda name: (way[name], name))[:MOST]
    if len(nearest) < FEWEST:
        return None
    excess = {pair: way[pair[0]] + way[pair[1]] - _length(correlation(*pair)) for pair in combinations(nearest, 2)}
    without = [_mean(value for pair, value in excess.items() if name not in pair) for name in nearest]
    count = len(nearest)
    spread = math.sqrt((count - 1) / count * float(np.sum((np.array(without) - np.mean(without)) ** 2)))
    return HubTest(_mean(excess.values()) / 2, spread / 2, float(np.median([way[name] for name in nearest])))


def _length(r: float) -> float:
    return -math.log(max(r, SMALLEST_R))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
