"""Whether gains of norms look drawn evenly from 0 on, not learned from one value: then two runs of one seed share them, and no more.

Batch norms of torch before 1.2 start so. All gains then have one mean and one spread, which training hardly moves as long as two runs
still agree in them. Learned gains differ from layer to layer. Other laws are not looked for: made-up models are as likely to have them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Vectors
from modelkin_registry.evidence.nulls import median

Floats = npt.NDArray[np.float64]
# Of a spread that training moves means, and of which it changes spreads, while runs of one start still agree (drawn_gains.json).
MOVED, GREW = 0.15, 0.08
ALIKE = 6.0  # chi-square of two freedoms up to which two vectors have one mean and spread: exceeded once in exp(3)
# Share of a side's gains that are alike from which all look drawn: the most of 45 published models with wide gains is 0.53
# (drawn_gains.json).
MOST_ALIKE = 0.65
EVEN, MOVES = 0.5, 0.08  # spread / root mean square of what is drawn evenly from 0 on, and what training moves it by (drawn_gains.json)
FEWEST = 3  # vectors that may be alike: two of a published model's are by chance


def look_drawn(vectors: Vectors, rows: Sequence[int]) -> bool:
    """Whether most of these gains (rows of a table of vectors) are spread as from 0 on, with one mean and one spread."""
    return abs(width(vectors, rows) - EVEN) <= MOVES and alike_share(vectors, rows) >= MOST_ALIKE


def width(vectors: Vectors, rows: Sequence[int]) -> float:
    """Median spread of gains beside their size; 0 of fewer than three that are not constant."""
    means, spreads, _ = _moments(vectors, rows)
    return median(spreads / np.hypot(means, spreads)) if len(means) >= FEWEST else 0.0


def alike_share(vectors: Vectors, rows: Sequence[int]) -> float:
    """The largest share of gains that are alike one of them, itself among them; 0 where that is one alone."""
    means, spreads, chance = _moments(vectors, rows)
    if len(means) < FEWEST:
        return 0.0
    both = chance[:, None] + chance[None, :]
    size = (spreads[:, None] ** 2 + spreads[None, :] ** 2) / 2
    means_off = (means[:, None] - means[None, :]) ** 2 / size / (MOVED**2 + both)
    spreads_off = np.log(spreads[:, None] / spreads[None, :]) ** 2 / (GREW**2 + both / 2)
    alike = int((means_off + spreads_off <= ALIKE).sum(axis=1).max())
    return alike / len(means) if alike >= FEWEST else 0.0


def _moments(vectors: Vectors, rows: Sequence[int]) -> tuple[Floats, Floats, Floats]:
    """Means, spreads and one over the lengths of those that are not constant, each once."""
    at = [row for row in dict.fromkeys(rows) if not vectors.constant[row] and vectors.sd[row] > 0]
    return vectors.mean[at].astype(np.float64), vectors.sd[at].astype(np.float64), 1 / vectors.length[at].astype(np.float64)
