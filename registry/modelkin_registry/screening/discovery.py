"""False-discovery rate over a batch: Benjamini and Yekutieli (2001), The control of the false discovery rate in multiple testing under
dependency. Tests that share a model or a submission depend on each other in no known way, which this procedure allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

Test = TypeVar("Test")
EXACT_SUM = 1000  # terms of the harmonic sum that are added one by one; from there on ln(m) + gamma + 1/(2m) is exact to 1e-7
GAMMA = 0.5772156649015329  # Euler's constant


def q_values(p_values: Mapping[Test, float], tests: int) -> dict[Test, float]:
    """Adjusted p-values: the smallest false-discovery rate at which a test is still rejected.

    `tests` counts all that were made; those that are not among `p_values` count with p = 1. Raises ValueError for fewer tests than values.
    """
    if tests < len(p_values):
        raise ValueError(f"{len(p_values)} p-values of {tests} tests")
    ordered = sorted(p_values.items(), key=lambda item: item[1], reverse=True)
    factor, least = tests * harmonic(tests), 1.0
    found = {}
    for place, (test, p_value) in enumerate(ordered):
        least = min(least, p_value * factor / (len(ordered) - place))
        found[test] = least
    return found


def harmonic(count: int) -> float:
    """1 + 1/2 + ... + 1/count; 0 of none."""
    if count <= EXACT_SUM:
        return sum(1.0 / number for number in range(1, count + 1))
    return math.log(count) + GAMMA + 1 / (2 * count)
