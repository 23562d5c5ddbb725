"""Agreement that sits in some of the sampled rows alone: what rows leave that were put in from another model, and what no training does.

A sketch keeps each sampled row apart, and equal matrices of all layers are sampled in the same rows. What was trained from another model
agrees in all of them alike; where rows were put in, some agree and the rest does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch, spec
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_registry.evidence.places import Measurement, PlaceCosine
from modelkin_registry.evidence.similarity import is_folded

ROWS = spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS
WIDTH = spec.PROBE_NUMBERS // ROWS  # numbers of a sketch that a row has
FEWEST_MATRICES = 4  # of one shape, over which each row's cosine is averaged: strangers' then have a deviation of 0.125
# Mean cosine of a row from which it is another model's, where three rows beside it in its block are not: centring leaves 0.75 of 1.
SAME_ROW = 0.6
OTHER_ROW = 0.25  # two deviations of strangers'
FEWEST_OTHERS = ROWS // 2


def in_few_blocks(places: Sequence[PlaceCosine], measured: Measurement) -> bool:
    """Whether tall tables of one shape agree in one of the sampled blocks of rows and in half of them or more not at all."""
    ours, theirs = measured.query.matrices, measured.relative.matrices
    blocks = spec.TALL_BLOCKS
    found = []
    for place in places:
        a, b = place.query_row, place.relative_row
        shape = int(ours.rows[a]), int(ours.columns[a])
        if shape == (int(theirs.rows[b]), int(theirs.columns[b])) and sketch.is_tall(*shape):
            x, y = (table.sketches["probe"][0][row].reshape(blocks, -1) for table, row in ((ours, a), (theirs, b)))
            lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
            found += [(x * y).sum(axis=1) / lengths] if lengths.all() else []
    mean = np.abs(np.mean(found, axis=0)) if found else np.zeros(blocks)
    return bool((mean >= SAME_ROW).any() and np.count_nonzero(mean <= OTHER_ROW) >= blocks // 2)


def in_few_rows(places: Sequence[PlaceCosine], measured: Measurement) -> bool:
    """Whether matrices of one shape agree in some sampled rows and in half of them or more not at all."""
    ours, theirs = measured.query.matrices, measured.relative.matrices
    mine, other = _plain(ours), _plain(theirs, folded=True)
    shapes: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for place in places:
        shape = mine[place.query_row]
        if shape is not None and shape == other[place.relative_row]:
            shapes[shape].append((place.query_row, place.relative_row))
    for same in (np.array(same).T for same in shapes.values() if len(same) >= FEWEST_MATRICES):
        x = ours.sketches["probe"][0][same[0]].reshape(-1, ROWS, WIDTH)
        y = theirs.sketches["probe"][0][same[1]].reshape(-1, ROWS, WIDTH)
        lengths = _lengths(ours)[same[0]] * _lengths(theirs)[same[1]]
        if not lengths.all():
            continue
        rows = np.abs(((x * y).sum(axis=2) / lengths).mean(axis=0))
        if (rows >= SAME_ROW).any() and np.count_nonzero(rows <= OTHER_ROW) >= FEWEST_OTHERS:
            return True
    return False


def _lengths(table: Matrices) -> npt.NDArray[np.float32]:
    """Of each sampled row of each matrix, where these are ROWS of WIDTH numbers."""
    known = table.worked_out
    if _lengths not in known:
        known[_lengths] = np.linalg.norm(table.sketches["probe"][0].reshape(-1, ROWS, WIDTH), axis=2)
    return known[_lengths]  # type: ignore[no-any-return]


def _plain(table: Matrices, *, folded: bool = False) -> list[tuple[int, int] | None]:
    """The shape of each matrix that stands alone and is not tall, None of the others; `folded` ones among them or not."""
    known = table.worked_out
    if (_plain, folded) not in known:
        shapes = zip(table.rows.tolist(), table.columns.tolist(), table.experts.tolist(), strict=True)
        known[_plain, folded] = [
            (rows, columns) if experts == 1 and not sketch.is_tall(rows, columns) and (folded or not is_folded(table, row)) else None
            for row, (rows, columns, experts) in enumerate(shapes)
        ]
    return known[_plain, folded]  # type: ignore[no-any-return]
