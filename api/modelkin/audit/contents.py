"""What the numbers of a file are: none at all, zeros, copies of one another, or a coarse grid with something fine on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin.audit.examined import NO_WEIGHTS, NOT_FULL, Examined, Found
from modelkin_indexer.places import Piece, Place
from modelkin_indexer.results.fingerprint import NOT_FINITE
from modelkin_indexer.source import Source
from modelkin_registry.answers.asked import Unusual

Singles = npt.NDArray[np.float32]
GRIDS = {"F32": {"BF16": 16, "F16": 13}, "F64": {"BF16": 16, "F16": 13}, "F16": {"BF16": 16}}  # bits of a single below a coarser grid's
BLOCKS, BLOCK_NUMBERS = 8, 8192  # read of each matrix, evenly over its rows
NORMAL = 2.0**-14  # smallest number that F16 holds with all its bits
NEAR = 0.125  # steps of the grid that are near it: a quarter of all numbers by chance
FEWEST = 1000  # numbers off the grid from which their share near it is told: by chance it is 0.25 with a deviation of 0.014
# Share of the numbers off the grid that are near it, as a multiple of what chance gives.
CROWDED = 1.6


def not_finite(it: Examined) -> Found:
    """NaN, infinite and absurdly large numbers."""
    entries = [one for one in it.fingerprint.about.unread if one["what"].startswith(NOT_FINITE)]
    if not entries:
        return []
    names = [one["what"].removeprefix(f"{NOT_FINITE}: ").partition(" of ")[2] for one in entries]
    where = entries[0]["what"].removeprefix(f"{NOT_FINITE}: ")
    return [it.unusual("not-finite", f"NaN, infinite or absurdly large numbers ({where}).", names, sum(one["bytes"] for one in entries))]


def zeroed(it: Examined) -> Found:
    """Matrices of zeros, and layers of nothing else."""
    table = it.matrices
    empty = [place for row, place in enumerate(table.places) if table.sd[row] == 0 and table.mean[row] == 0]
    if not empty:
        return []
    whole = sorted(
        {(place.component, place.layer) for place in empty if place.layer >= 0} - {(p.component, p.layer) for p in _filled(it, empty)}
    )
    words = f"All {'numbers' if it.is_full else 'sampled numbers'} of {len(empty)} matrices are zero"
    layers = f", which are all matrices of {len(whole)} layers" if whole else ""
    return [it.unusual("zeroed", f"{words}{layers}.", it.names(empty))]


def _filled(it: Examined, empty: Sequence[Place]) -> list[Place]:
    return [place for place in it.matrices.places if place not in set(empty)]


def repeated_layers(it: Examined) -> Found:
    """Layers all of whose matrices are equal."""
    if not it.is_full:
        return NOT_FULL
    layers: dict[tuple[str, int], list[Place]] = defaultdict(list)
    for place in it.matrices.places:
        if place.layer >= 0:
            layers[place.component, place.layer].append(place)
    alike: dict[tuple[str, frozenset[tuple[str, str, bytes]]], list[int]] = defaultdict(list)
    for (component, layer), places in layers.items():
        if any(it.matrices.sd[it.rows[place]] > 0 for place in places):
            held = frozenset((place.family, place.role, it.matrices.digest[it.rows[place]].tobytes()) for place in places)
            alike[component, held].append(layer)
    found = []
    for (component, _), numbers in sorted(alike.items(), key=lambda one: one[1]):
        if len(numbers) > 1:
            words = f"Layers {', '.join(map(str, numbers))} of {component} have equal matrices, as where layers are stacked twice."
            found.append(
                it.unusual("repeated-layers", words, it.names([place for number in numbers[1:] for place in layers[component, number]]))
            )
    return found


def fine_noise(it: Examined) -> Found:
    """Numbers that crowd around a coarser type's, without being them."""
    if it.source is None:
        return NO_WEIGHTS
    pieces = [piece for piece in it.pieces.values() if not piece.is_vector and _dtype(it.source, piece) in GRIDS]
    if it.source.quantization or not pieces:
        return "only numbers stored as F64, F32 or F16 are looked at, which have a coarser grid beside them"
    return [one for grid in ("F16", "BF16") if (one := _crowded(it, it.source, pieces, grid)) is not None][:1]


def _dtype(source: Source, piece: Piece) -> str:
    return source.tensors[piece.views[0].tensor].dtype


def _crowded(it: Examined, source: Source, pieces: Sequence[Piece], grid: str) -> Unusual | None:
    """The matrices whose numbers crowd around those of `grid`."""
    names, shares = [], []
    for piece in pieces:
        bits = GRIDS[_dtype(source, piece)].get(grid)
        near, chance = near_grid(_some(source, piece), bits, stored=13 if _dtype(source, piece) == "F16" else 0) if bits else (0.0, 1.0)
        if near > CROWDED * chance:
            names += [view.tensor for view in piece.views]
            shares.append(near)
    if not names:
        return None
    words = (
        f"Of the numbers that are not {grid} numbers {np.median(shares):.0%} are within an eighth of a step of one (25 % by chance): as where "
        f"numbers stored in {grid} were changed since by less than its step, by further training or by noise."
    )
    return it.unusual("fine-noise", words, list(dict.fromkeys(names)))


def near_grid(numbers: Singles, bits: int, stored: int = 0) -> tuple[float, float]:
    """Of the numbers off a grid the share that is near it, and what chance gives.

    Args:
        numbers: of a matrix.
        bits: of a single's 23 that the grid does not have.
        stored: of them those that the numbers' own type does not have.
    """
    usable = numbers[np.isfinite(numbers) & (np.abs(numbers) > NORMAL)]
    steps = 1 << (bits - stored)
    low = (usable.view(np.uint32) & np.uint32((1 << bits) - 1)) >> np.uint32(stored)
    off = low[low > 0].astype(np.int64)
    distances = np.minimum(np.arange(1, steps), steps - np.arange(1, steps)) / steps
    if len(off) < FEWEST:
        return 0.0, 1.0
    return float(np.mean(distances[off - 1] <= NEAR)), float(np.mean(distances <= NEAR))


def _some(source: Source, piece: Piece) -> Singles:
    from modelkin_indexer.sources.stored import values  # a written fingerprint does without the indexer's imports

    found = []
    for view in piece.views[:: max(1, len(piece.views) // BLOCKS)]:
        count = max(1, min(view.rows, BLOCK_NUMBERS // view.columns))
        starts = sorted({int(start) for start in np.linspace(0, view.rows - count, BLOCKS)})
        found += [values.read_rows(source, view, start, start + count).ravel()[:BLOCK_NUMBERS] for start in starts]
    return np.concatenate(found)
