"""Is a model a random initialisation? Its numbers are then independent draws from one simple distribution, and its gains are untouched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.start_nulls import STARTS, kurtosis_null
from modelkin_registry.evidence.similarity import sampled_rows
from modelkin_registry.evidence.start import learned_share

if TYPE_CHECKING:
    from modelkin_registry.answers.trajectory import InitialisationTest

KURTOSIS_SD = 5.0  # standard errors of a sample's kurtosis that are chance; float16 storage adds 0.002
STORED = 0.01  # added to that margin whatever the number: what float16 storage and unequal rows may add
SAME_SIZE = 0.05  # spread of one role's standard deviations over layers that rounding and sampling make; training makes 0.1 and more
LEAST_SHARE = 0.9  # of matrices that must look drawn: a few (padding rows, fixed parts) may not
FEWEST_NUMBERS = 256  # sampled numbers from which a kurtosis says something


def examine_start(model: Fingerprint) -> InitialisationTest:
    """Every sign that a model has not been trained, with its number."""
    shape, drawn, count = _distribution(model)
    vectors = list(zip(model.vectors.constant.tolist(), model.vectors.mean.tolist(), model.vectors.places, strict=True))
    gains = [bool(same) for same, _, p in vectors if p.family == "norm"]
    biases = [bool(same) and mean == 0 for same, mean, p in vectors if p.family == "bias"]
    constant = float(np.mean(gains)) if gains else None
    zero = float(np.mean(biases)) if biases else None
    spread = _size_spread(model)
    kept = (constant is None or constant == 1.0) and (spread is None or spread <= SAME_SIZE)
    from modelkin_registry.answers.trajectory import InitialisationTest

    return InitialisationTest(count > 0 and drawn >= LEAST_SHARE and kept, shape, drawn, constant, zero, spread, count)


def _distribution(model: Fingerprint) -> tuple[str, float, int]:
    """The distribution that most matrices could be drawn from, the share that are white and from one, and how many were looked at."""
    table = model.matrices
    numbers = table.seen.astype(np.int64) * table.columns
    able = (numbers >= FEWEST_NUMBERS) & (table.scale > 0) if len(table) else np.zeros(0, bool)
    if not able.any():
        return "none", 0.0, 0
    kurtosis, near = table.kurtosis[able].astype(float), {}
    for name in STARTS:
        nulls = np.array([kurtosis_null(name, int(n)) for n in numbers[able]])
        near[name] = np.abs(kurtosis - nulls[:, 0]) <= KURTOSIS_SD * nulls[:, 1] + STORED
    best = max(near, key=lambda name: (float(np.mean(near[name])), name))
    white = np.array([learned_share(table, row, model.about.level) == 0 for row in np.flatnonzero(able).tolist()])
    return best, float(np.mean(np.any(list(near.values()), axis=0) & white)), int(able.sum())


def _size_spread(model: Fingerprint) -> float | None:
    """Beyond what drawing so many numbers makes: 1 / sqrt(2 n) of a standard deviation."""
    table, sizes = model.matrices, dict[tuple[str, str, str, int, int], list[tuple[float, float]]]()
    for row, place in enumerate(table.places):
        if place.layer >= 0:
            whole = model.about.level == "full"
            numbers = int(table.parameters[row]) if whole else sampled_rows(table, row) * int(table.columns[row])
            shape = int(table.rows[row]), int(table.columns[row])  # starts depend on it
            sizes.setdefault((place.component, place.family, place.role, *shape), []).append((float(table.sd[row]), numbers))
    able = [(np.array([sd for sd, _ in found]), min(n for _, n in found)) for found in sizes.values() if len(found) > 1]
    spreads = [max(0.0, float(sd.std() / sd.mean()) - 2.0 / math.sqrt(2.0 * n)) for sd, n in able if sd.mean() > 0]
    return max(spreads) if spreads else None
