"""Which layer of the query came from which layer of the relative: a path that may skip, repeat and jump."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import NO_LAYER
from modelkin_indexer.results.channels import CHANNELS, TABLE
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.evidence.nulls import sketch_noises, typical
from modelkin_registry.evidence.similarity import Ints, Similarities, rows_by_role

Floats = npt.NDArray[np.float64]
CELL_Z = 4.8  # a lone cell counts from here: 1 in 1.2 million by chance, so under 1 % for 48 x 48 layers in three channels
CHANNEL_R = {one.name: one.least_r for one in TABLE}
RUN_Z = 2.5  # enough for a cell that continues the run of its neighbours
RUN_BONUS = 0.5  # what continuing a run is worth against a cell of equal look, in standard deviations
# Two layers of one model are one layer twice (a network beside its running average) where all roles agree so closely, number by number.
# Layers that a formula starts alike agree in some of their roles only; of a network twice there are roles of several kinds.
TWIN_R, FEWEST_TWIN_ROLES = 0.9, 2
TWIN_LOOK = 0.5  # a mismatched cell from which twins are looked for: layers of strangers show 0.3 at most
ALIGNING_FAMILIES = ("attention", "mlp", "expert", "conv", "ssm")


class LayerMap(Struct, frozen=True):
    """`pairs` are (query layer, relative layer), at most one a query layer.

    `found` is False where no cell stood out and `pairs` is only the default to measure on.
    """

    pairs: tuple[tuple[int, int], ...]
    found: bool


def align(similarities: Sequence[Similarities]) -> LayerMap:
    """Map layers by all aligning families and channels together.

    Without a single significant cell the default is layer i to layer i (equal depth) or the nearest relative depth: fixed beforehand, so
    that what is then measured on it is not chosen by its looks.
    """
    chosen_roles = [(s, [at for at, (family, _) in enumerate(s.roles) if family in ALIGNING_FAMILIES]) for s in similarities]
    usable = [s.of(roles) for s, roles in chosen_roles if roles]
    ours = np.array(sorted({layer for s in usable for layer in s.query_layers.tolist() if layer >= 0}), np.int64)
    theirs = np.array(sorted({layer for s in usable for layer in s.relative_layers.tolist() if layer >= 0}), np.int64)
    if not len(ours) or not len(theirs):
        return LayerMap((), False)
    z = np.full((len(ours), len(theirs)), -np.inf)
    for channel in CHANNELS:
        if of_channel := [s for s in usable if s.channel == channel]:
            z = np.fmax(z, _channel_z(channel, of_channel, ours, theirs))
    chosen = _fill_runs(_best_cells(z), z)
    if any(column is not None for column in chosen):
        return LayerMap(tuple((int(ours[row]), int(theirs[column])) for row, column in enumerate(chosen) if column is not None), True)
    return LayerMap(default_pairs(ours, theirs), False)


def _channel_z(channel: str, similarities: Sequence[Similarities], ours: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]) -> Floats:
    """Sum over roles of standardised cosines / sqrt(number of roles), per (query layer, relative layer); -inf below CHANNEL_R."""
    total, count, raw = (np.zeros((len(ours), len(theirs))) for _ in range(3))
    for s in similarities:
        cells, at = s.cosines, cast(Any, ...)  # roles that every layer has
        if cells.shape[1:] != total.shape or s.query_layers[0] < 0 or s.relative_layers[0] < 0:
            layered_a, layered_b = s.query_layers >= 0, s.relative_layers >= 0
            cells = cells[:, layered_a][:, :, layered_b]
            at = np.ix_(np.searchsorted(ours, s.query_layers[layered_a]), np.searchsorted(theirs, s.relative_layers[layered_b]))
        standardised = _standardise(cells, sketch_noises(channel, s.numbers))
        known = np.isfinite(standardised)
        total[at] += np.where(known, standardised, 0.0).sum(axis=0)
        count[at] += known.sum(axis=0)
        raw[at] += np.where(known, cells, 0.0).sum(axis=0)
    least = np.maximum(count, 1)
    return np.where((count > 0) & (raw / least >= CHANNEL_R[channel]), total / np.sqrt(least), -np.inf)


def _standardise(cells: Floats, noise: Floats) -> Floats:
    """(cosine - typical) / spread of each role's cells, which are mismatches for the most part.

    Where half of a role's cells or more may be matches, as of stages with two layers of each width, nothing is typical: 0 and the noise.
    """
    known = np.isfinite(cells)
    if known.all():
        crowded_all = 2 * min(cells.shape[1:]) >= cells[0].size
        middle, spread = (np.zeros(len(cells)), noise) if crowded_all else typical(cells.reshape(len(cells), -1), noise)
        return np.asarray((cells - np.minimum(middle, 0.5)[:, None, None]) / spread[:, None, None])
    matches = np.minimum(known.any(axis=2).sum(axis=1), known.any(axis=1).sum(axis=1))
    crowded = 2 * matches >= known.sum(axis=(1, 2))
    middle, spread = typical(np.where(crowded[:, None, None], np.nan, cells).reshape(len(cells), -1), noise)
    return np.asarray((cells - np.minimum(middle, 0.5)[:, None, None]) / spread[:, None, None])


def _best_cells(z: Floats) -> list[int | None]:
    """Per query layer the best significant relative layer; a continued run wins near-ties."""
    chosen: list[int | None] = []
    for row in z:
        score = row.copy()
        following = chosen[-1] + 1 if chosen and chosen[-1] is not None else None
        if following is not None and following < len(score):
            score[following] += RUN_BONUS
        best = int(np.argmax(score))
        chosen.append(best if row[best] >= CELL_Z else None)
    return chosen


def _fill_runs(chosen: list[int | None], z: Floats) -> list[int | None]:
    """Give an unmatched layer the cell that continues a neighbour's run, if that cell alone speaks for it."""
    filled = list(chosen)
    for row in range(1, len(filled)):
        _continue_run(filled, row, row - 1, +1, z)
    for row in range(len(filled) - 2, -1, -1):
        _continue_run(filled, row, row + 1, -1, z)
    return filled


def _continue_run(filled: list[int | None], row: int, neighbour: int, step: int, z: Floats) -> None:
    at = filled[neighbour]
    if filled[row] is None and at is not None and 0 <= at + step < z.shape[1] and z[row, at + step] >= RUN_Z:
        filled[row] = at + step


def default_pairs(ours: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    if len(ours) == len(theirs):
        return tuple((int(a), int(b)) for a, b in zip(ours, theirs, strict=True))
    places = np.rint(np.linspace(0, len(theirs) - 1, len(ours))).astype(int)
    return tuple((int(a), int(theirs[place])) for a, place in zip(ours, places, strict=True))


@once
def twin_layers(table: Matrices, component: str) -> frozenset[tuple[int, int]]:
    """Pairs of layers of one component that are one layer twice, both ways round."""
    values, lengths = table.sketches["probe"]
    roles = {
        role: (layers, rows)
        for role, (layers, rows) in rows_by_role(table.places, component).items()
        if role[0] in ALIGNING_FAMILIES and layers[0] != NO_LAYER
    }
    numbers = np.unique(np.concatenate([layers for layers, _ in roles.values()])) if roles else np.zeros(0, np.int64)
    count = len(numbers)  # of layers that are there: their numbers may be any
    least, alike = np.full((count, count), np.inf), np.zeros((len(roles), count, count), np.bool_)
    for at, (layers, rows) in enumerate(roles.values()):
        scale = lengths[rows][:, None] * lengths[rows]
        same = (table.rows[rows][:, None] == table.rows[rows]) & (table.columns[rows][:, None] == table.columns[rows]) & (scale > 0)
        found = np.divide(values[rows] @ values[rows].T, scale, out=np.full_like(scale, np.nan), where=same)
        at_numbers = np.searchsorted(numbers, layers)
        cells = np.ix_(at_numbers, at_numbers)
        least[cells] = np.fmin(least[cells], found)
        alike[at][cells] = found >= TWIN_R
    twins = np.isfinite(least) & (least >= TWIN_R) & ~np.eye(count, dtype=np.bool_)
    if np.count_nonzero((alike & twins).any(axis=(1, 2))) < FEWEST_TWIN_ROLES:
        return frozenset()
    return frozenset((a, b) for a, b in numbers[np.argwhere(twins)].tolist())


def may_hold_twins(cosines: Floats, matched: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether a cell (..., n, m) of the probe channel that is not matched shows as much as a layer's twin would, of each pair."""
    return np.asarray((np.where(matched, 0.0, cosines) >= TWIN_LOOK).any(axis=(-2, -1)), np.bool_)


def beside_twins(
    matched: npt.NDArray[np.bool_], layers: tuple[Ints, Ints], twins: Sequence[frozenset[tuple[int, int]]]
) -> npt.NDArray[np.bool_]:
    """The matched cells (n, m) and those that hold a matched layer's twin, on either side: no mismatches, whatever they show."""
    a, b = (
        np.array([[one == other or (one, other) in pairs for other in side.tolist()] for one in side.tolist()], np.int64)
        for side, pairs in zip(layers, twins, strict=True)
    )
    return np.asarray((a @ matched @ b) > 0, np.bool_)
