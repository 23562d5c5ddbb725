"""Tables of few values in an order: selections, masks, rotations of signs, relative indices, coupling coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.formulas.rounding import SAME, Rounding, equal

Floats = npt.NDArray[np.float64]
ORTHOGONAL = 1e-4  # of a row's energy: inner products of different rows of signs; the nearest to 0 that is not 0 is 1 / length
FEWEST_SIGNS = 16  # numbers of a row
RUNS = 6  # changes of value in a line of a mask, on the average at most
LONGEST_RUNS = 0.25  # of what numbers in random order would change
FEWEST = 8  # numbers of a line of two values, and of the smaller side of a table: fewer may be so by chance
FEWEST_SELECTED, MANY_SELECTED = 3, 64  # numbers of a selection; of one that leaves rows and columns empty
ADDED = 1e-2  # of the spread: sums told only where rounding is far below it
SPARSE, SPARSE_FLAT = 0.3, 0.5  # of zeros, at least, in coupling coefficients; and where these were flattened
PAIRED = 0.7  # different sizes among the numbers that are not zero, at most: the same few roots come again
LARGEST_COUPLING = 21**3  # degrees up to 10, and |a - b| <= c <= a + b
FEW_SLICES = 4  # coordinates of a grid


def selects(matrix: Floats, error: Rounding) -> bool:
    """Whether each row, or each column, takes one number, all of one size: identities, permutations, shuffles, means."""
    written = matrix[matrix != 0]
    if written.size < FEWEST_SELECTED or min(matrix.shape) < 2 or not _all_equal(written, error):
        return False
    counts = (matrix != 0).sum(axis=1), (matrix != 0).sum(axis=0)
    return any(count.max() == 1 and (count.min() == 1 or written.size >= MANY_SELECTED) for count in counts)


def _all_equal(numbers: Floats, error: Rounding) -> bool:
    """Whether all are as the first but for rounding; a few are looked at before all."""
    first = float(numbers[0])
    return bool(equal(numbers[:FEWEST_SIGNS], first, error).all() and equal(numbers, first, error).all())


def signs(matrix: Floats, error: Rounding) -> bool:
    """Whether all numbers are of one size and the rows orthogonal: Hadamard's matrices, turned by signs or not."""
    size = np.abs(matrix)
    one = float(size.flat[0])
    if len(matrix) < 2 or matrix.shape[1] < FEWEST_SIGNS or not one or not _all_equal(size.reshape(-1), error):
        return False
    rows = np.sign(matrix)
    products = rows @ rows.T / matrix.shape[1]
    np.fill_diagonal(products, 0)
    return bool(np.abs(products).max() <= ORTHOGONAL)


def mask(lines: Floats) -> bool:
    """Whether two values stand in long runs: causal, windowed, blocks."""
    low, high = lines.min(), lines.max()
    if low == high or lines.shape[1] < FEWEST or not ((lines == low) | (lines == high)).all():
        return False
    share = float((lines == high).mean())
    changes = float((np.diff(lines, axis=1) != 0).sum(axis=1).mean())
    return changes <= RUNS and changes <= LONGEST_RUNS * 2 * share * (1 - share) * (lines.shape[1] - 1)


def additive(matrix: Floats, error: Rounding) -> bool:
    """Whether x[i, j] = u[i] + v[j]: relative positions, sums of coordinates; a class token may have a line of its own."""
    if min(matrix.shape) <= FEWEST:
        return False
    inner = matrix[1:, 1:]
    spread = float(np.ptp(inner))
    slack = SAME * spread + 4 * error.of(float(np.abs(inner).max()))
    off = np.abs(inner - inner[:, :1] - inner[:1] + inner[:1, :1])
    return bool(off.max() <= slack < ADDED * spread)


def mesh(table: Floats) -> bool:
    """Whether each of a few slices changes along one axis only: coordinates of a grid."""
    if table.ndim != 3:
        return False
    for axis in range(3):
        slices = np.moveaxis(table, axis, 0)
        if len(slices) <= FEW_SLICES and min(slices.shape[1:]) >= FEWEST:
            return all((one == one[:1]).all() or (one == one[:, :1]).all() for one in slices)
    return False


def coupling(table: Floats, error: Rounding) -> bool:
    """Whether a small table of three odd axes couples degrees: many zeros, and the same few sizes over and over."""
    coupled = table.ndim == 3 and all(n % 2 and 2 * n <= sum(table.shape) + 1 for n in table.shape)
    flat = table.ndim == 1 and table.size % 2 == 1
    if not (coupled or flat) or not FEWEST < table.size <= LARGEST_COUPLING:
        return False
    size = np.abs(table)
    largest = float(size.max())
    slack = SAME * largest + 2 * error.of(largest)
    sizes = np.sort(size[size > slack])
    if len(sizes) < 2 or len(sizes) > (1 - (SPARSE if coupled else SPARSE_FLAT)) * table.size:
        return False
    return 1 + int((np.diff(sizes) > slack).sum()) <= PAIRED * len(sizes)
