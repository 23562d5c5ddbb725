"""What is left when contents have decided: tensors of one shape, told apart by how their numbers are spread.

Spread says nothing of coordinates, so what such a pair then shows of each other is not chosen by its looks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices, Vectors
from modelkin_registry.counterparts.linear_assignment import largest_sum
from modelkin_registry.counterparts.pairing import SHAPE, Pair, Rows, grouped, shapes

Floats = npt.NDArray[np.float64]
TINY = float(np.finfo(np.float32).tiny)


def matrices_left(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int]) -> list[Pair]:
    """Pairs of the matrices that are left, shape by shape."""
    mine, their = _of_matrices(query.matrices), _of_matrices(relative.matrices)
    found = _paired(shapes(query, ours), shapes(relative, theirs), mine, their)
    left = _tables(query, [row for row in ours if row not in {pair.ours for pair in found}])
    free = _tables(relative, [row for row in theirs if row not in {pair.theirs for pair in found}])
    return found + _paired(left, free, mine, their)


def _tables(model: Fingerprint, rows: Sequence[int]) -> dict[Hashable, Rows]:
    """Tall matrices by their columns: tables of tokens, of which a vocabulary has its own number."""
    table = model.matrices
    tall = [row for row in rows if table.experts[row] == 1 and sketch.is_tall(int(table.rows[row]), int(table.columns[row]))]
    return grouped(table.columns[tall].tolist(), tall)


def vectors_left(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int]) -> list[Pair]:
    """Pairs of the vectors that are left, length by length."""
    table, other = query.vectors, relative.vectors
    mine, their = (grouped(side.length[list(rows)].tolist(), rows) for side, rows in ((table, ours), (other, theirs)))
    return _paired(mine, their, _of_vectors(table), _of_vectors(other))


Spread = Callable[[Rows], Floats]


def _of_matrices(table: Matrices) -> Spread:
    def spread(rows: Rows) -> Floats:
        sd = np.maximum(table.sd[rows].astype(float), TINY)
        columns = [
            np.log(sd),
            np.log(np.maximum(table.kurtosis[rows].astype(float), 1.0)),
            table.mean[rows] / sd,
            table.zeros[rows].astype(float),
            np.nan_to_num(table.column_spread[rows].astype(float)),
            np.nan_to_num(table.row_spread[rows].astype(float)),
        ]
        return np.stack(columns, axis=1)

    return spread


def _of_vectors(table: Vectors) -> Spread:
    return lambda rows: np.column_stack([table.mean[rows], table.sd[rows], table.quantiles[rows].astype(float)])


def _paired(mine: Mapping[Hashable, Rows], their: Mapping[Hashable, Rows], ours: Spread, theirs: Spread) -> list[Pair]:
    found = []
    for key in [key for key in mine if key in their]:
        a, b = mine[key], their[key]
        if len(a) == len(b) == 1:
            found.append(Pair(a[0], b[0], SHAPE))
            continue
        apart = np.abs(_standard(ours(a))[:, None, :] - _standard(theirs(b))[None, :, :]).sum(axis=2)
        found += [Pair(a[row], b[column], SHAPE) for row, column in zip(*map(np.ndarray.tolist, largest_sum(-apart)), strict=True)]
    return found


def _standard(values: Floats) -> Floats:
    """Each column (n, columns) in its own spread about its own mean: what moved all of them alike, as a merge does, says nothing."""
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), TINY))
