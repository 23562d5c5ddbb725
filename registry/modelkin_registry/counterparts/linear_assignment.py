"""The linear assignment problem: which row takes which column, so that the values taken have the largest sum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
SMALL = 1 << 14  # cells of a problem that is solved here: in some milliseconds, where importing scipy's solver takes a third of a second


def largest_sum(values: Floats) -> tuple[Ints, Ints]:
    """Rows, in order, and the column of each: as many pairs as the shorter side has.

    Crouse 2016, "On implementing 2D rectangular assignment algorithms", as scipy.optimize.linear_sum_assignment, which is asked where the
    problem is large. Of several best ones either may give another.
    """
    if values.size > SMALL:
        from scipy.optimize import linear_sum_assignment  # see SMALL

        rows, columns = linear_sum_assignment(values, maximize=True)
        return np.asarray(rows, np.int64), np.asarray(columns, np.int64)
    if values.shape[0] <= values.shape[1]:
        return np.arange(values.shape[0]), _columns_of_rows(-values)
    rows = _columns_of_rows(-values.T)
    order = np.argsort(rows)
    return rows[order], order


def _columns_of_rows(cost: Floats) -> Ints:
    """The column of each row at the least cost, by the shortest augmenting path of one row after the other. No fewer columns than rows."""
    column_of, row_of = np.full(cost.shape[0], -1), np.full(cost.shape[1], -1)
    of_row, of_column = np.zeros(cost.shape[0]), np.zeros(cost.shape[1])  # the dual variables
    for first in range(cost.shape[0]):
        shortest, path, settled = np.full(cost.shape[1], np.inf), np.full(cost.shape[1], -1), np.zeros(cost.shape[1], np.bool_)
        row, length, passed = first, 0.0, []
        while row >= 0:
            passed.append(row)
            reached = length + cost[row] - of_row[row] - of_column
            nearer = ~settled & (reached < shortest)
            shortest[nearer], path[nearer] = reached[nearer], row
            column = int(np.where(settled, np.inf, shortest).argmin())
            length, settled[column] = float(shortest[column]), True
            row = int(row_of[column])
        of_row[first] += length
        for row in passed[1:]:
            of_row[row] += length - shortest[column_of[row]]
        of_column[settled] -= length - shortest[settled]
        while column >= 0:
            row = int(path[column])
            row_of[column], column_of[row], column = row, column, int(column_of[row])
    return column_of
