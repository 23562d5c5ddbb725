"""Units (neurons, rows of heads, neurons of experts) of two matrices matched: fitted on half of the channels, judged on the others.

A unit is a row of W where W's columns face the residual stream, a column of W where its rows do. Of A a sample of units is taken,
of B every unit is a candidate. Memory: SAMPLE units of each role, and COST numbers for the assignment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy.optimize import linear_sum_assignment

from modelkin_indexer.aligned.channel_maps import nuclear_norm, polar
from modelkin_indexer.aligned.finite_rows import finite_rows
from modelkin_indexer.places import Piece
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

Singles = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]
SAMPLE = 1024  # units of A
COST = 1 << 25  # numbers of the assignment problem
HEADS = 8  # heads of A that are turned
SEED = 2026


class Side(Struct, frozen=True):
    """One role of one layer. `gain` multiplies the channels of units that read the stream; None where there is none."""

    source: Source
    piece: Piece
    gain: Singles | None = None

    @property
    def by_rows(self) -> bool:
        return self.piece.residual == "in"

    @property
    def channels(self) -> int:
        view = self.piece.views[0]
        return view.columns if self.by_rows else view.rows

    @property
    def each(self) -> int:
        """Units of one view."""
        view = self.piece.views[0]
        return view.rows if self.by_rows else view.columns

    @property
    def units(self) -> int:
        return self.each * len(self.piece.views)


class Match(Struct, frozen=True):
    """What was fitted, in a word, and each role's correlation on held out channels."""

    order: str
    r: tuple[float, ...]


def halves(channels: int) -> tuple[Flags, Flags]:
    """Channels to fit on, and those to judge on."""
    fit = np.zeros(channels, np.bool_)
    fit[np.random.default_rng(SEED).permutation(channels)[: channels // 2]] = True
    return fit, ~fit


def sample(sides: Sequence[Side], candidates: int) -> Numbers:
    """Evenly spread units of A: as many as the assignment problem has room for."""
    units = sides[0].units
    count = min(SAMPLE, units, max(1, COST // candidates))
    return np.unique(np.linspace(0, units - 1, count).astype(np.intp))


def take(side: Side, units: Numbers) -> Singles:
    """Chosen units, (units, channels), gains folded in."""
    out = np.empty((len(units), side.channels), np.float32)
    for number, view in enumerate(side.piece.views):
        here = np.flatnonzero(units // side.each == number)
        wanted = units[here] % side.each
        if not len(here):
            continue
        for start, stop in values.row_blocks(view):
            block = None
            if side.by_rows:
                inside = (wanted >= start) & (wanted < stop)
                if inside.any():
                    block = finite_rows(side.source, view, start, stop)
                    out[here[inside]] = block[wanted[inside] - start]
            else:
                block = finite_rows(side.source, view, start, stop)
                out[here, start:stop] = block[:, wanted].T
    return out if side.gain is None else out * side.gain


def _stream(side: Side) -> Iterator[tuple[slice, slice, Singles]]:
    """(units, channels, values (units, channels)) of every block."""
    for number, view in enumerate(side.piece.views):
        first = number * side.each
        for start, stop in values.row_blocks(view):
            block = finite_rows(side.source, view, start, stop)
            if side.by_rows:
                yield slice(first + start, first + stop), slice(0, side.channels), block if side.gain is None else block * side.gain
            else:
                yield slice(first, first + side.each), slice(start, stop), block.T


def likeness(side: Side, ours: Singles, used: Flags) -> Singles:
    """Cosines of A's units (n, channels of B) with all units of B over the channels in use, (n, units)."""
    products = np.zeros((len(ours), side.units), np.float32)
    squares = np.zeros(side.units, np.float32)
    for units, channels, block in _stream(side):
        kept = used[channels]
        block = np.ascontiguousarray(block[:, kept])
        products[:, units] += ours[:, channels][:, kept] @ block.T
        squares[units] += np.square(block).sum(axis=1)
    lengths = np.sqrt(np.square(ours[:, used]).sum(axis=1))[:, None] * np.sqrt(squares)[None, :]
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))


def assign(sides: Sequence[Side], ours: Sequence[Singles], fit: Flags, held: Flags) -> Match:
    """Units in another order, each role's sign of its own (linear assignment)."""
    found = [likeness(side, one, fit) for side, one in zip(sides, ours, strict=True)]
    score = np.abs(found[0])
    for more in found[1:]:
        score += np.abs(more)
    rows, columns = linear_sum_assignment(score, maximize=True)
    r = []
    for side, one, cosines in zip(sides, ours, found, strict=True):
        sign = np.where(cosines[rows, columns] < 0, np.float32(-1), np.float32(1))
        r.append(correlation(one[rows] * sign[:, None], take(side, columns), held))
    return Match("reordered", tuple(r))


def turn(side: Side, ours: Singles, size: int, fit: Flags, held: Flags) -> Match:
    """Whole heads of `size` units in another order, each turned by a rotation of its own. `ours` are whole heads of A."""
    theirs = take(side, np.arange(side.units)).reshape(-1, size, side.channels)
    heads = ours.reshape(-1, size, ours.shape[1])
    cost = np.empty((len(heads), len(theirs)))
    for i, head in enumerate(heads):
        for j, other in enumerate(theirs):
            cost[i, j] = nuclear_norm(head[:, fit] @ other[:, fit].T) / max(float(np.linalg.norm(other[:, fit])), 1e-30)
    rows, columns = linear_sum_assignment(cost, maximize=True)
    turned = [polar((heads[i][:, fit] @ theirs[j][:, fit].T).astype(np.float64)).T @ heads[i] for i, j in zip(rows, columns, strict=True)]
    return Match("turned", (correlation(np.concatenate(turned), theirs[columns].reshape(-1, side.channels), held),))


def correlation(a: Singles, b: Singles, used: Flags) -> float:
    """Pearson correlation of all numbers in channels in use; 0 of constants."""
    x, y = (np.asarray(side[:, used], np.float64) for side in (a, b))
    x, y = x - x.mean(), y - y.mean()
    lengths = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float(np.sum(x * y)) / lengths if lengths > 0 else 0.0
