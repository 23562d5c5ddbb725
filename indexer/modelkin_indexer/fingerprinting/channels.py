"""The probe channel: keyed linear samples of a few rows, which keep coordinates; and the token rows that the anchored channel rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import sketch, spec
from modelkin_indexer.sketch import Block
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
DISTINCT_RUN = 128  # consecutive columns looked at together for repeated magnitudes
EIGENVALUE_FLOOR = 1e-6  # token directions weaker than this share of the strongest are noise and are left out of the frame


class Sampled(Struct, frozen=True):
    """What the sampled rows of a matrix say. `rows` stay in memory only; `numbers` are their positions in their matrix."""

    rows: Singles
    numbers: Ints
    probe: Floats
    scale: float
    zeros: float
    distinct: float


def sample(rows: Singles, blocks: Sequence[Block], key: Key, slots: int) -> Sampled:
    """Probe vector and statistics of the rows (n <= slots, columns) of these blocks."""
    probe, scale = probe_vector(rows, blocks, key, slots)
    return Sampled(rows, row_numbers(blocks), probe, scale, float(np.mean(rows == 0)), distinct_share(rows))


def probe_vector(rows: Singles, blocks: Sequence[Block], key: Key, slots: int) -> tuple[Floats, float]:
    """The sketch of the centred rows, each in its slot, and their length."""
    at = [slot for block in blocks for slot in range(block.slot, block.slot + block.stop - block.start)]
    values, numbers = rows.astype(np.float64), row_numbers(blocks)
    starts = np.cumsum([0, *(block.stop - block.start for block in blocks)])
    groups = list(pairwise(starts.tolist())) if sketch.centred_by_block(blocks) else [(0, len(values))]
    values = np.concatenate([centred(values[start:stop], numbers[start:stop]) for start, stop in groups])
    return sketch.sketch_rows(values, key, "probe", slots, spec.PROBE_NUMBERS // slots, at)


def row_numbers(blocks: Sequence[Block]) -> Ints:
    """Positions of the sampled rows in their matrix."""
    return np.concatenate([np.arange(block.start, block.stop) for block in blocks])


def centred(values: Floats, numbers: Ints) -> Floats:
    """Sampled rows without what strangers share by construction: offsets of whole rows and columns, and a multiple of the identity.

    Linear in the values, so that sketches stay linear. A common column offset is taken out where at least FEWEST_ROWS rows show it. Blocks
    of tall matrices are centred each by itself, so that a block says the same whichever others stand beside it.
    """
    columns = values.shape[1]
    on_diagonal = np.flatnonzero(numbers < columns)
    if len(on_diagonal) == len(numbers) and len(numbers) >= sketch.FEWEST_ROWS:
        values = values.copy()
        at = on_diagonal, numbers[on_diagonal]
        values[at] -= values[at].mean()
    values = values - values.mean(axis=1, keepdims=True)
    return values - values.mean(axis=0) if len(values) >= sketch.FEWEST_ROWS else values


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


def token_frame(tokens: Singles, numbers: Ints, key: Key) -> Singles:
    """Directions (columns, DIRECTIONS) = (E'E)^(-1/2) E'S for token rows E (tokens, columns) and signs S keyed by the token's number.

    Rotating the residual stream rotates the directions with it. Whitening is what keeps strangers who share a tokenizer at 0.
    """
    rows = tokens.astype(np.float64)
    keyed = sketch.signs(key, "anchor", spec.TOKEN_WINDOW, spec.DIRECTIONS)[numbers].astype(np.float64)
    tall = rows.shape[0] >= rows.shape[1]
    values, vectors = np.linalg.eigh(rows.T @ rows if tall else rows @ rows.T)
    kept = values > EIGENVALUE_FLOOR * values[-1]
    weights = 1.0 / np.sqrt(np.asarray(values[kept], np.float64))
    inverse_root = (vectors[:, kept] * weights) @ vectors[:, kept].T
    directions = inverse_root @ (rows.T @ keyed) if tall else rows.T @ (inverse_root @ keyed)
    return np.asarray(directions, np.float32)


class RowCollector:
    """Keeps the wanted rows while blocks stream past, in the order they were asked for."""

    def __init__(self, blocks: Sequence[Block], columns: int) -> None:
        wanted = [(block.expert, row) for block in blocks for row in range(block.start, block.stop)]
        self.slots: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for slot, (view, row) in enumerate(wanted):
            self.slots[view].append((slot, row))
        self.rows = np.zeros((len(wanted), columns), np.float32)

    def take(self, view: int, start: int, block: Singles) -> None:
        """Keep what is wanted of rows [start, start + len(block)) of a view."""
        for slot, row in self.slots.get(view, ()):
            if start <= row < start + len(block):
                self.rows[slot] = block[row - start]
