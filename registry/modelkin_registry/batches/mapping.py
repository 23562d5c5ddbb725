"""Layer maps of many pairs at once, as evidence/alignment.py makes one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import NO_LAYER
from modelkin_indexer.results.channels import CHANNELS
from modelkin_registry.batches.cosines import Block
from modelkin_registry.batches.robust import typical_rows
from modelkin_registry.evidence.alignment import ALIGNING_FAMILIES, CELL_Z, CHANNEL_R, RUN_BONUS, RUN_Z, default_pairs
from modelkin_registry.evidence.places import NO_COUNTERPART

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
NONE = -1  # stands for no column of the cells


class LayerMaps:
    """Of each pair the relative's layer that each of the query's came from. `found` (pairs,): whether any cell stood out.

    `in_place` (pairs,): whether every layer has its counterpart at its own number.
    """

    def __init__(self, blocks: Sequence[Block], pairs: int) -> None:
        usable = [block.of(roles) for block in blocks if (roles := _aligning(block))]
        self.ours = _layers(block.query_layers for block in usable)
        self.theirs = _layers(block.relative_layers for block in usable)
        self.found = np.zeros(pairs, np.bool_)
        self.in_place = np.ones(pairs, np.bool_)
        self.counterpart = np.full((pairs, len(self.ours)), NO_COUNTERPART, np.int64)
        if not len(self.ours) or not len(self.theirs):
            return
        self.z = z = np.full((pairs, len(self.ours), len(self.theirs)), -np.inf)
        for channel in CHANNELS:
            np.fmax(z, _channel_z(channel, [block for block in usable if block.channel == channel], self.ours, self.theirs, pairs), out=z)
        self.found, self.counterpart = _counterparts(z, self.ours, self.theirs)
        self.in_place = (self.counterpart == self.ours).all(axis=1)

    def in_place_back(self) -> npt.NDArray[np.bool_]:
        """`in_place` of the same pairs the other way round, where nothing but the direction is another."""
        if not len(self.ours) or not len(self.theirs):
            return np.ones(len(self.found), np.bool_)
        _, counterpart = _counterparts(self.z.transpose(0, 2, 1), self.theirs, self.ours)
        return np.asarray((counterpart == self.theirs).all(axis=1), np.bool_)

    def matched(self, block: Block) -> npt.NDArray[np.bool_]:
        """(pairs, query layers, relative layers) of a block: which cells lie on the map."""
        wanted = np.full((len(self.found), len(block.query_layers)), NO_COUNTERPART, np.int64)
        wanted[:, block.query_layers == NO_LAYER] = NO_LAYER
        known = np.isin(block.query_layers, self.ours)
        wanted[:, known] = self.counterpart[:, np.searchsorted(self.ours, block.query_layers[known])]
        return np.asarray(wanted[:, :, None] == block.relative_layers, np.bool_)


def _aligning(block: Block) -> list[int]:
    return [at for at, (family, _) in enumerate(block.roles) if family in ALIGNING_FAMILIES]


def _layers(found: Iterable[Ints]) -> Ints:
    return np.array(sorted({layer for layers in found for layer in layers.tolist() if layer != NO_LAYER}), np.int64)


def _channel_z(channel: str, blocks: Sequence[Block], ours: Ints, theirs: Ints, pairs: int) -> Floats:
    """As alignment.py has it, (pairs, query layers, relative layers)."""
    total, count, raw = (np.zeros((pairs, len(ours), len(theirs))) for _ in range(3))
    for block in blocks:
        a, b = block.query_layers != NO_LAYER, block.relative_layers != NO_LAYER
        cells = block.cosines if a.all() and b.all() else block.cosines[:, :, a][:, :, :, b]
        if not cells.size:
            continue
        roles = cells.shape[1]
        middle, spread = (
            one.reshape(pairs, roles, 1, 1) for one in typical_rows(cells.reshape(pairs * roles, -1), block.noise.reshape(-1))
        )
        there = np.isfinite(cells)
        matches = np.minimum(there.any(axis=3).sum(axis=2), there.any(axis=2).sum(axis=2))
        crowded = (2 * matches >= there.sum(axis=(2, 3)))[:, :, None, None]  # half of the cells or more may be matches: nothing is typical
        middle = np.where(crowded, 0.0, middle)
        spread = np.where(crowded, block.noise.reshape(pairs, roles, 1, 1), spread)
        standardised = (cells - np.minimum(middle, 0.5)) / spread
        known = np.isfinite(standardised)
        sums = [np.where(known, standardised, 0.0).sum(axis=1), known.sum(axis=1), np.where(known, cells, 0.0).sum(axis=1)]
        at = np.ix_(range(pairs), np.searchsorted(ours, block.query_layers[a]), np.searchsorted(theirs, block.relative_layers[b]))
        for whole, part in zip((total, count, raw), sums, strict=True):
            whole[at] += part
    with np.errstate(invalid="ignore", divide="ignore"):
        z, mean = total / np.sqrt(count), raw / count
    return np.where((count > 0) & (mean >= CHANNEL_R[channel]), z, -np.inf)


def _counterparts(z: Floats, ours: Ints, theirs: Ints) -> tuple[npt.NDArray[np.bool_], Ints]:
    """`found` and `counterpart` of cells (pairs, query layers, relative layers)."""
    chosen = _fill_runs(_best_cells(z), z)
    found = (chosen != NONE).any(axis=1)
    counterpart = np.where(chosen != NONE, theirs[chosen], NO_COUNTERPART)
    known = dict(default_pairs(ours, theirs))
    counterpart[~found] = [known.get(layer, NO_COUNTERPART) for layer in ours.tolist()]
    return found, counterpart


def _best_cells(z: Floats) -> Ints:
    """(pairs, query layers): the best significant column, NONE without."""
    pairs, rows, columns = z.shape
    every = np.arange(pairs)
    chosen = np.full((pairs, rows), NONE, np.int64)
    for row in range(rows):
        score = z[:, row].copy()
        if row:
            following = chosen[:, row - 1] + 1
            able = (chosen[:, row - 1] != NONE) & (following < columns)
            score[every[able], following[able]] += RUN_BONUS
        best = score.argmax(axis=1)
        chosen[:, row] = np.where(z[every, row, best] >= CELL_Z, best, NONE)
    return chosen


def _fill_runs(chosen: Ints, z: Floats) -> Ints:
    filled = chosen.copy()
    rows = filled.shape[1]
    for row in range(1, rows):
        _continue_run(filled, row, row - 1, +1, z)
    for row in range(rows - 2, -1, -1):
        _continue_run(filled, row, row + 1, -1, z)
    return filled


def _continue_run(filled: Ints, row: int, neighbour: int, step: int, z: Floats) -> None:
    to = filled[:, neighbour] + step
    able = np.flatnonzero((filled[:, row] == NONE) & (filled[:, neighbour] != NONE) & (to >= 0) & (to < z.shape[2]))
    able = able[z[able, row, to[able]] >= RUN_Z]
    filled[able, row] = to[able]
