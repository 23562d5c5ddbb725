"""What the numbers of a file are: none at all, zeros, copies of one another, or a coarse grid with something fine on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin.auditing.examined import NO_WEIGHTS, NOT_FULL, Examined, Found, counted
from modelkin_indexer.places import Piece, Place
from modelkin_indexer.results.fingerprint import NOT_FINITE
from modelkin_indexer.source import Source

Singles = npt.NDArray[np.float32]
GRIDS = {"F32": {"BF16": 16, "F16": 13}, "F64": {"BF16": 16, "F16": 13}, "F16": {"BF16": 16}}  # bits of a single below a coarser grid's
STORED = {"F16": 13}  # bits of a single that a type's own numbers do not have
BLOCKS, BLOCK_NUMBERS = 8, 8192  # read of each matrix, evenly over its rows
NORMAL, INFINITE = 0x38800000, 0x7F800000  # as a single's bits 2^-14, the smallest number that F16 holds with all its bits, and infinity
NEAR = 0.125  # steps of the grid that are near it: a quarter of all numbers by chance
FEWEST = 1000  # numbers off the grid from which their share near it is told: by chance it is 0.25 with a deviation of 0.014
# Share of the numbers off the grid that are near it, as a multiple of what chance gives. In 5,800 matrices of 121 models it is 1.15 at
# most, but in one (2.0); noise of 0.1 % of the numbers on BF16 gives 2.0, of 0.01 % 4. More than 0.15 % is not seen.
CROWDED = 1.6
# Share of a file's matrices that are so from which it is told: of the same models the most is 1 in 38: positions of a fine-tuned MiniLM.
WIDELY = 0.25


def not_finite(it: Examined) -> Found:
    """NaN, infinite and absurdly large numbers."""
    entries = [one for one in it.fingerprint.about.unread if one["what"].startswith(NOT_FINITE)]
    if not entries:
        return []
    told = [one["what"].removeprefix(f"{NOT_FINITE}: ").partition(" of ") for one in entries]
    words = f"NaN, infinite or absurdly large numbers in {counted(len(told), 'tensor')} (of the first: {told[0][0]})."
    return [it.unusual("not-finite", words, [name for _, _, name in told], sum(one["bytes"] for one in entries))]


def zeroed(it: Examined) -> Found:
    """Matrices of zeros, and layers of nothing else."""
    table = it.matrices
    empty = [place for row, place in enumerate(table.places) if table.sd[row] == 0 and table.mean[row] == 0]
    if not empty:
        return []
    whole = sorted(
        {(place.component, place.layer) for place in empty if place.layer >= 0} - {(p.component, p.layer) for p in _filled(it, empty)}
    )
    words = f"All {'numbers' if it.is_full else 'sampled numbers'} of {counted(len(empty), 'matrix', 'matrices')} are zero"
    layers = f", which are all matrices of {counted(len(whole), 'layer')}" if whole else ""
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
    if it.source.quantization or not any(_dtype(it.source, piece) in GRIDS for piece in it.pieces.values() if not piece.is_vector):
        return "only numbers stored as F64, F32 or F16 are looked at, which have a coarser grid beside them"
    for grid, looked_at in crowds(it, it.source).items():
        crowded = [(piece, crowd) for piece, crowd in looked_at if crowd > CROWDED]
        if len(crowded) > WIDELY * len(looked_at):
            times = float(np.median([crowd for _, crowd in crowded]))
            words = (
                f"In {len(crowded)} of {len(looked_at)} matrices {times:.1f} times as many numbers as by chance are near numbers of {grid} "
                f"without being these, as where numbers stored in {grid} were changed by less than its step, by training or noise."
            )
            return [it.unusual("fine-noise", words, it.names([piece.place for piece, _ in crowded]))]
    return []


def _dtype(source: Source, piece: Piece) -> str:
    return source.tensors[piece.views[0].tensor].dtype


def crowds(it: Examined, source: Source) -> dict[str, list[tuple[Piece, float]]]:
    """By grid each matrix that can be looked at, with the share of its numbers near the grid as a multiple of chance."""
    found: dict[str, list[tuple[Piece, float]]] = {"BF16": [], "F16": []}
    for piece in it.pieces.values():
        grids = {} if piece.is_vector else GRIDS.get(_dtype(source, piece), {})
        numbers = _some(source, piece) if grids else None
        for grid, bits in grids.items():
            assert numbers is not None
            crowd = near_grid(numbers, bits, STORED.get(_dtype(source, piece), 0))
            found[grid] += [(piece, crowd)] if crowd is not None else []
    return found


def near_grid(numbers: Singles, bits: int, stored: int = 0) -> float | None:
    """Of the numbers off a grid the share that is near it, as a multiple of what chance gives; None where they are too few.

    Args:
        numbers: of a matrix.
        bits: of a single's 23 that the grid does not have.
        stored: of them those that the numbers' own type does not have.
    """
    magnitudes = numbers.view(np.uint32) & np.uint32(0x7FFFFFFF)
    usable = (magnitudes > NORMAL) & (magnitudes < INFINITE)
    magnitudes = magnitudes if usable.all() else magnitudes[usable]
    steps = 1 << (bits - stored)
    low = (magnitudes & np.uint32((1 << bits) - 1)) >> np.uint32(stored)
    on, near = int(np.count_nonzero(low == 0)), int(NEAR * steps)
    off = low.size - on
    if off < FEWEST:
        return None
    found = int(np.count_nonzero(((low + np.uint32(near)) & np.uint32(steps - 1)) <= 2 * near)) - on
    crowd = (found / off) / (2 * near / (steps - 1))
    if crowd > CROWDED and len(np.unique(magnitudes[low > 0])) < FEWEST:  # a table of few numbers is near by the chance of each
        return None
    return crowd


def _some(source: Source, piece: Piece) -> Singles:
    from modelkin_indexer.sources.stored import values  # a written fingerprint does without the indexer's imports

    found = []
    for view in piece.views[:: max(1, len(piece.views) // BLOCKS)]:
        count = max(1, min(view.rows, BLOCK_NUMBERS // view.columns))
        starts = sorted({int(start) for start in np.linspace(0, view.rows - count, BLOCKS)})
        found += [values.read_rows(source, view, start, start + count).ravel()[:BLOCK_NUMBERS] for start in starts]
    return np.concatenate(found)
