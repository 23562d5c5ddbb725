"""The three channels and the statistics of one matrix, from its values.

probe     keyed linear samples of a few rows; keeps coordinates
gram      R'W'WR for keyed directions R of the side that faces the residual stream; blind to the order of neurons, heads and experts
anchored  the same with R spanned by whitened token rows; blind to a rotation or permutation of the residual stream too

The gains of the norm that a matrix reads are folded into R (W diag(g) R), so a folded copy looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.gram_vectors import upper
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
FEWEST_ROWS = 4  # rows from which an offset of a column or of the diagonal is told from a value
DISTINCT_RUN = 128  # consecutive columns looked at together for repeated magnitudes
TINY = float(np.finfo(np.float64).tiny)
EIGENVALUE_FLOOR = 1e-6  # token directions weaker than this share of the strongest are noise and are left out of the frame


@dataclass(frozen=True)
class Sampled:
    """What the sampled rows of a matrix say. `rows` stay in memory only."""

    rows: Singles
    probe: Floats
    scale: float
    mean: float
    sd: float
    zeros: float
    distinct: float
    kurtosis: float


def sample(rows: Singles, numbers: Ints, key: Key, slots: int) -> Sampled:
    """Probe vector and statistics of the chosen rows (n <= slots, columns), whose positions in the matrix are `numbers`."""
    values = rows.astype(np.float64)
    mean, sd = float(values.mean()), float(values.std())
    probe, scale = sketch.sketch_rows(centred(values, numbers), key, "probe", slots, spec.PROBE_NUMBERS // slots)
    fourth = float(np.mean((values - mean) ** 4) / sd**4) if sd > 0 else 0.0
    return Sampled(rows, probe, scale, mean, sd, float(np.mean(rows == 0)), distinct_share(rows), fourth)


def centred(values: Floats, numbers: Ints) -> Floats:
    """Sampled rows without what strangers share by construction: offsets of whole rows and columns, and a multiple of the identity.

    Linear in the values, so that sketches stay linear. A common column offset is taken out where at least FEWEST_ROWS rows show it.
    """
    columns = values.shape[1]
    on_diagonal = np.flatnonzero(numbers < columns)
    if len(on_diagonal) == len(numbers) and len(numbers) >= FEWEST_ROWS:
        values = values.copy()
        at = on_diagonal, numbers[on_diagonal]
        values[at] -= values[at].mean()
    values = values - values.mean(axis=1, keepdims=True)
    return values - values.mean(axis=0) if len(values) >= FEWEST_ROWS else values


def distinct_share(rows: Singles) -> float:
    """Share of distinct magnitudes among the non-zero values of each DISTINCT_RUN consecutive columns, mean: low on a quantiser's grid.

    Short runs, since grouped quantisers have a scale of their own every 32 to 128 values.
    """
    width = min(DISTINCT_RUN, rows.shape[1])
    runs = np.sort(np.abs(rows[:, : rows.shape[1] // width * width]).reshape(-1, width), axis=1)
    nonzero = runs > 0
    fresh = nonzero.copy()
    fresh[:, 1:] &= runs[:, 1:] != runs[:, :-1]
    counted = nonzero.sum(axis=1)
    shares = fresh.sum(axis=1)[counted > 1] / counted[counted > 1]
    return float(shares.mean()) if shares.size else 1.0


def token_frame(tokens: Singles, key: Key) -> Singles:
    """Directions (columns, DIRECTIONS) = (E'E)^(-1/2) E'S for token rows E (tokens, columns) and signs S keyed by the token's rank.

    Rotating the residual stream rotates the directions with it. Whitening is what keeps strangers who share a tokenizer at 0.
    """
    rows = tokens.astype(np.float64)
    keyed = sketch.signs(key, "anchor", len(rows), spec.DIRECTIONS).astype(np.float64)
    tall = rows.shape[0] >= rows.shape[1]
    values, vectors = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    kept = values > EIGENVALUE_FLOOR * values[-1]
    weights = 1.0 / np.sqrt(np.asarray(values[kept], np.float64))
    inverse_root = (vectors[:, kept] * weights) @ vectors[:, kept].T
    directions = inverse_root @ (rows.T @ keyed) if tall else rows.T @ (inverse_root @ keyed)
    return np.asarray(directions, np.float32)


class GramAccumulator:
    """Sums D'W'WD (or D'WW'D) over the row blocks of one matrix for stacked directions D; call `end_matrix` after each expert."""

    def __init__(self, directions: Singles, side: str, columns: int) -> None:
        self.directions, self.side = directions, side
        self.total = np.zeros((directions.shape[1], directions.shape[1]))
        self.outer = np.zeros((columns, directions.shape[1]), np.float32) if side == "out" else None

    def add(self, start: int, block: Singles) -> None:
        """Take in rows [start, start + len(block))."""
        if self.outer is None:
            projected = block @ self.directions
            self.total += projected.T @ projected
        else:
            self.outer += block.T @ self.directions[start : start + len(block)]

    def end_matrix(self) -> None:
        """Close one matrix of a stack: what follows counts rows from 0 again."""
        if self.outer is not None:
            self.total += self.outer.T @ self.outer
            self.outer[:] = 0


def gram_vector(total: Floats, directions: Singles) -> Floats:
    """Upper triangle of a Gram matrix without its part along D'D (what an isotropic matrix would give), at unit length."""
    isotropic = upper(directions.astype(np.float64).T @ directions.astype(np.float64))
    vector = upper(total)
    vector = vector - isotropic * (vector @ isotropic) / max(float(isotropic @ isotropic), TINY)
    return sketch.unit(vector)[0]
