"""What is one piece of evidence though it stands in many places: tensors that hold the same numbers, or nearly the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Matrices, Vectors
from modelkin_registry.counterparts.assignment import products

TINY = float(np.finfo(np.float64).tiny)
ROUNDED = 1e-3  # of a cosine in single precision, far more than it is off
ALIKE_SD = 4.8  # of a cosine's noise, from which matrices are alike: what a layer has to stand out by in a layer map


def told_once(table: Matrices | Vectors, rows: Iterable[int]) -> list[int]:
    """These rows in their order, without those whose numbers another one holds: a table in every layer is one piece of evidence."""
    found: dict[bytes, int] = {}
    for row in sorted(set(rows)):
        found.setdefault(contents_of(table, row), row)
    return list(found.values())


def contents_of(table: Matrices | Vectors, row: int) -> bytes:
    """What tensors that hold the same numbers have in common: the digest, or at level probe the sketch and its length."""
    known: dict[Any, list[bytes]] = table.worked_out
    if contents_of not in known:
        known[contents_of] = _contents(table)
    return known[contents_of][row]


def _contents(table: Matrices | Vectors) -> list[bytes]:
    found = [b"%d" % row for row in range(len(table))]  # where nothing tells that it is another's
    for column in ((table.probe, table.numbers) if isinstance(table, Matrices) else ()) + (table.digest,):  # the last that says anything
        for row in np.flatnonzero(column.any(axis=1)).tolist():
            found[row] = bytes(column[row].tobytes() + table.scale[row].tobytes())
    return found


class Agreeing(NamedTuple):
    """A row of ours and one of theirs, their correlation, and its noise (sd)."""

    ours: int
    theirs: int
    r: float
    noise: float


def told_apart(ours: Matrices, theirs: Matrices, found: Sequence[Agreeing]) -> list[int]:
    """Positions in `found` of the pairs of matrices that say something of their own.

    Every layer may have started from one table that a formula gives (shifts, Hilbert and Legendre matrices), which other models start from
    as well. A matrix then agrees with its counterpart's neighbours as much as with its counterpart: of S + a, S + b in one model and S + c,
    S + d in the other the correlations crosswise have the product of those that are not. What agrees so with a pair before it says no more.
    """
    if len(found) < 2 or ours.probe.shape[1] != theirs.probe.shape[1]:
        return list(range(len(found)))
    near = _may_agree(ours, theirs, found)
    if not near.any():
        return list(range(len(found)))
    groups: dict[tuple[int, int, int], list[int]] = {}
    at = [one.ours for one in found]
    for position, shape in enumerate(zip(ours.rows[at].tolist(), ours.columns[at].tolist(), ours.experts[at].tolist(), strict=True)):
        groups.setdefault(shape, []).append(position)
    kept: list[int] = []
    for positions in groups.values():
        if not near[np.ix_(positions, positions)].any():
            kept += positions
            continue
        crosswise, first = _crosswise(ours, theirs, [found[at] for at in positions]), list[int]()
        some = np.logical_or.reduce(np.tril(crosswise, -1), axis=1)  # the others agree with none before them
        for number in range(len(positions)):
            if not (some[number] and crosswise[number, first].any()):
                first.append(number)
        kept += [positions[number] for number in first]
    return sorted(kept)


def _may_agree(ours: Matrices, theirs: Matrices, found: Sequence[Agreeing]) -> npt.NDArray[np.bool_]:
    """Which of these pairs (n, n) may agree crosswise at all: more than the least noise lets them, roughly, in single precision."""
    (x, x_length), (y, y_length) = ours.sketches["probe"], theirs.sketches["probe"]
    a, b = [one.ours for one in found], [one.theirs for one in found]
    cosines, lengths = products(x[a], y[b].T), x_length[a][:, None] * y_length[b]
    least = ALIKE_SD * min(one.noise for one in found) - ROUNDED
    near = np.asarray(np.abs(cosines * cosines.T) >= np.float32(least**2) * (lengths * lengths.T), np.bool_)
    np.fill_diagonal(near, False)
    return near


def _crosswise(ours: Matrices, theirs: Matrices, found: Sequence[Agreeing]) -> npt.NDArray[np.bool_]:
    """Which of these pairs (n, n), all of one shape, agree crosswise with which as much as with themselves, by the noise of the first."""
    r = np.array([one.r for one in found])
    noise = np.array([one.noise for one in found])[:, None]
    a, b = ours.sketches["probe"][0][[one.ours for one in found]], theirs.sketches["probe"][0][[one.theirs for one in found]]
    cosines = _unit(a) @ _unit(b).T
    across, both = np.sqrt(np.abs(cosines * cosines.T)), np.sqrt(np.abs(np.outer(r, r)))
    return np.asarray(across >= np.maximum(ALIKE_SD * noise, both - ALIKE_SD * (1 - np.minimum(both, 1.0) ** 2) * noise))


def _unit(rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), TINY))
