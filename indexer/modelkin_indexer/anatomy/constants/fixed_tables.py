"""Tables and buffers that are never evidence, recognised by what they hold: anybody computes them, so strangers share them bit by bit.

A table is fixed if a formula gives its numbers back (`formulas/`; the list of kinds is `modelkin_data/fixed_tables.json`), whatever its
name, axis order, scale or type. Small tensors are looked at whole; of large ones some rows say first whether that is worth it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modelkin_data import table_reasons
from modelkin_indexer.anatomy.constants.formulas import kernels, lattices, patterns, shapes, waves
from modelkin_indexer.anatomy.constants.formulas.medians import median
from modelkin_indexer.anatomy.constants.formulas.rounding import FINE, Rounding, equal, rounding
from modelkin_indexer.anatomy.constants.noise import ALIKE, DRAWN_OUT, FEWEST_NEIGHBOURS, NEIGHBOURS, surely_noise
from modelkin_indexer.sources.stored.usable import LARGEST, usable

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CONSTANT = table_reasons()["constant"]
FEWEST = 8  # shortest vector taken for a table: fewer numbers lie on a line or curve by chance
SPACED = 1e-3  # of its range: what an evenly or geometrically spaced vector may be off, beside rounding
RUN = 8  # lines one after the other that are tried first, at the beginning, in the middle and at the end
COARSER = (1, 4, 16)  # strides at which a vector may be a smooth curve: of half precision the smallest steps are lost
LONGEST_FOLD, SHORTEST_FOLD = 4096, 8  # numbers of the rows that a flattened table may have had
FOLDED = 4096  # numbers from which a vector is looked at as a flattened table: gains and biases are mostly shorter
ROWS_TRIED = 16  # of a folded vector
COLUMNS_TRIED = 512  # in the middle of long rows: a window's wave is plain there
STRIDES = (1, 2, 3, 4, 6, 9, 12)  # of numbers that take turns in a list of boxes
KERNEL_AXES = {3: ((1, 2), (0, 1), (0, 2)), 4: ((2, 3), (0, 1), (1, 2))}  # [out, in, rows, columns], or TensorFlow's and TFLite's orders
NARROW = 8  # columns of a list of boxes or points
EMPTY, CROWDED = 0.9, 0.5  # share of zeros in rows that are looked at further; where they stand together, this is enough
TOGETHER = 0.5  # of the changes between zeros and other numbers that random places would give


def table_reason(values: Singles) -> str:
    """Why a whole tensor, in its stored shape, is no evidence; "" if it may be weights."""
    formula = _formula(values)
    return table_reasons()[formula] if formula else ""


def vector_reason(values: Singles) -> str:
    """Why a vector is a fixed table; "" if it may be weights. That all its values are equal is told elsewhere."""
    if values.size < FEWEST or np.ptp(values) == 0:
        return ""
    return table_reason(values.reshape(-1))


def rows_reason(rows: Singles, numbers: Ints) -> str:
    """Why a large table is no evidence, told by these rows (n, columns) of it, at `numbers`; "" if it may be weights."""
    formula = _formula_of_rows(_bounded(rows).astype(np.float64), numbers, rounding(rows))
    return table_reasons()[formula] if formula else ""


def looks_fixed(rows: Singles, numbers: Ints) -> bool:
    """Whether some rows of a table are unlike weights in any way, so that it is worth reading more of it."""
    skipped = max(0, rows.shape[1] - COLUMNS_TRIED) // 2
    middle, error = rows[:, skipped : skipped + COLUMNS_TRIED], rounding(rows)
    if surely_noise(middle, numbers, error):
        return False
    some = _bounded(middle).astype(np.float64)
    return bool(_formula_of_rows(some, numbers, error)) or _is_bare(some) or _is_drawn_out(some, numbers)


def integer_reason(values: Singles) -> str:
    """Why whole numbers (a whole tensor in its stored shape) are an index table or a mask; "" if they may be packed weights."""
    return CONSTANT if not values.size or np.ptp(values) == 0 else table_reason(values)


def order_reason(values: Singles) -> str:
    """Why whole numbers are an order of rows, or the groups of rows in any order, all of one size but the last; "" if they are none.

    An order says something: of as many weights, their ranks. So its size counts wherever it is left out.
    """
    numbers, counts = np.unique(values, return_counts=True)
    even = values.size >= FEWEST and numbers.size > 1 and np.ptp(np.diff(numbers)) == 0
    return table_reasons()["steps"] if even and (counts[:-1] == counts[0]).all() and counts[-1] <= counts[0] else ""


def _formula(values: Singles) -> str:
    """The formula that gives a whole tensor back, or ""."""
    if not values.size or np.isnan(values).any():
        return ""
    if values.min() == values.max():
        return "constant"
    bounded = _bounded(values)
    wide, error = bounded.astype(np.float64), rounding(bounded)
    table = wide.reshape([n for n in wide.shape if n != 1])
    if table.ndim == 1:
        return _formula_of_vector(table, error)
    found = _few_values(table, error) or _lines(table, error) or _pairs(table, error) or _kernels(wide, table, error)
    return found or ("pattern" if patterns.regular(table.reshape(len(table), -1)) else "")


def _bounded(values: Singles) -> Singles:
    """Infinite and absurdly large numbers, as masks have them, as larger than the others."""
    if usable(values):
        return values
    bad = ~(np.abs(values) <= LARGEST)
    largest = np.abs(values[~bad]).max(initial=1)
    return np.where(bad, np.nan_to_num(np.sign(values)) * 2 * largest, values)


def _matrices(table: Floats) -> Iterator[Floats]:
    """A table as a matrix: its first axis against the others, its last axis against the others, and both turned round."""
    first, last = table.reshape(len(table), -1), table.reshape(-1, table.shape[-1])
    for matrix in (first, last) if table.ndim > 2 else (first,):
        yield from (matrix, matrix.T)


def _few_values(table: Floats, error: Rounding) -> str:
    if any((matrix == matrix[:1]).all() for matrix in _matrices(table) if matrix.shape[1] > 1):
        return "same lines"
    if any(lattices.selects(matrix, error) for matrix in _matrices(table)):
        return "selection"
    if any(lattices.mask(matrix) for matrix in _matrices(table)):
        return "mask"
    if table.ndim == 2 and (lattices.signs(table, error) or lattices.signs(table.T, error)):
        return "signs"
    if (table.ndim == 2 and lattices.additive(table, error)) or lattices.mesh(table):
        return "steps"
    return "coupling" if lattices.coupling(table, error) else ""


def _kernels(stored: Floats, table: Floats, error: Rounding) -> str:
    """Kernels of one axis are rows or columns; others stand in the last axes, the first, or between channels."""
    if table.ndim == 2 and any(kernels.repeated(lines) for lines in (table, table.T)):
        return "kernels"
    if table.ndim == 2 and any(kernels.mirror_images(lines, error) for lines in (table, table.T)):
        return "mirrors"
    for axes in KERNEL_AXES.get(stored.ndim, ((-2, -1),)) if stored.ndim > 2 else ():
        pictures = np.moveaxis(stored, axes, (-2, -1))
        pictures = pictures.reshape(-1, *pictures.shape[-2:])
        if kernels.repeated(pictures.reshape(len(pictures), -1)):
            return "kernels"
        if kernels.mirrored(pictures, error):
            return "mirrors"
    return ""


def _lines(table: Floats, error: Rounding) -> str:
    """The formula of a table's lines along one of its axes."""
    for axis in range(table.ndim):
        lines = np.moveaxis(table, axis, -1).reshape(-1, table.shape[axis])
        formula = _formula_of_lines(_some(lines), error) and _formula_of_lines(lines, error)
        if formula:
            return formula
    if table.ndim == 2:
        return _ordered_lines(table, error) or _ordered_lines(table.T, error)
    return ""


def _formula_of_lines(lines: Floats, error: Rounding) -> str:
    if waves.plain_waves(lines):
        return "waves"
    if waves.windowed_waves(lines, error):
        return "windowed waves"
    may_be_smooth, may_step = shapes.may_be_smooth(lines, error), shapes.may_step(lines, error)  # no error is smaller than FINE
    for off in dict.fromkeys((FINE, error)):  # numbers like 0.25 and 8 seem to be rounded, and are not
        if may_be_smooth and shapes.smooth(lines, off):
            return "curves"
        if may_step and shapes.even_steps(lines, off):
            return "steps"
    return ""


def _ordered_lines(table: Floats, error: Rounding) -> str:
    """Formulas for which the order of the lines counts."""
    if shapes.bumps(table, error):
        return "bumps"
    if shapes.shares(table, error):
        return "shares"
    strides = (stride for stride in STRIDES if table.shape[0] <= NARROW and table.shape[1] % stride == 0)
    if any(shapes.even_steps(_in_turns(table, stride), error) for stride in strides):
        return "steps"
    return ""


def _in_turns(table: Floats, stride: int) -> Floats:
    return np.swapaxes(table.reshape(len(table), -1, stride), 1, 2).reshape(len(table) * stride, -1)


def _pairs(table: Floats, error: Rounding) -> str:
    """Waves from line to line, along any axis, and pairs of a cosine and a sine."""
    for axis in range(table.ndim):
        rows = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
        if waves.stepping_waves(rows, np.arange(len(rows))):
            return "waves"
    return "waves" if table.ndim == 2 and any(waves.on_circles(matrix) for matrix in (table, table.T)) else ""


def _some(lines: Floats) -> Floats:
    """Three runs of lines: enough to see that a table is none."""
    count = len(lines)
    if count <= 3 * RUN:
        return lines
    return np.concatenate([lines[:RUN], lines[count // 2 : count // 2 + RUN], lines[-RUN:]])


def _formula_of_vector(vector: Floats, error: Rounding) -> str:
    if vector.size < FEWEST:
        return ""
    if equal(np.abs(vector), float(abs(vector[0])), error).all():
        return "signs"
    forms = [(vector, error)]
    if vector.min() > 0:
        told = vector[vector > error.absolute / error.relative]  # smaller ones have lost their digits
        forms.append((np.log(told), Rounding(0.0, float(error.of(1.0)))))
    for form, off in forms:
        if form.size >= FEWEST and _spaced(form, off):
            return "steps"
        if any(shapes.smooth(form[None, ::stride], off) for stride in COARSER):
            return "curves"
    if kernels.mirror_images(vector[None], error):
        return "mirrors"
    if lattices.coupling(vector, error):
        return "coupling"
    return _folded(vector, error) or ("pattern" if patterns.regular(vector[None]) else "")


def _spaced(vector: Floats, error: Rounding) -> bool:
    index = np.arange(vector.size) - (vector.size - 1) / 2
    slope = (index @ vector) / (index @ index)
    off = np.abs(vector - vector.mean() - slope * index)
    return bool(slope and off.max() <= SPACED * np.ptp(vector) + 2 * error.of(float(np.abs(vector).max())))


def _folded(vector: Floats, error: Rounding) -> str:
    """The formula of a table that was flattened."""
    if vector.size <= FOLDED:
        return ""
    for width in range(SHORTEST_FOLD, min(vector.size // SHORTEST_FOLD, LONGEST_FOLD) + 1):
        if vector.size % width:
            continue
        table = vector.reshape(-1, width)
        some = table[:ROWS_TRIED]
        if _formula_of_rows(some, np.arange(len(some)), error) or shapes.bumps(table, error):
            formula = _lines(table, error) or _pairs(table, error) or _few_values(table, error)
            if formula:
                return formula
    return ""


def _formula_of_rows(rows: Floats, numbers: Ints, error: Rounding) -> str:
    """The formula of some rows of a table."""
    if not rows.size or np.ptp(rows) == 0:
        return "constant"
    if (len(rows) > 1 and (rows == rows[:1]).all()) or (rows.shape[1] > 1 and (rows == rows[:, :1]).all()):
        return "same lines"
    if lattices.selects(rows, error):
        return "selection"
    if lattices.signs(rows, error):
        return "signs"
    if lattices.mask(rows):
        return "mask"
    if kernels.repeated(rows):
        return "kernels"
    formula = _formula_of_lines(rows, error)
    if formula:
        return formula
    if waves.stepping_waves(rows, numbers) or waves.on_circles(rows):
        return "waves"
    return "pattern" if patterns.regular(rows) else ""


def _is_drawn_out(rows: Floats, numbers: Ints) -> bool:
    """Whether in enough rows neighbours are nearly alike, or rows that follow each other, as in tables of curves."""
    follow = np.flatnonzero(np.diff(numbers) == 1)
    pairs = ((rows[:, :-1], rows[:, 1:]), (rows[follow], rows[follow + 1]))
    for one, other in pairs:
        if one.size and one.shape[1] > 1:
            apart, spread = np.abs(one - other).mean(axis=1), np.abs(one - one.mean(axis=1, keepdims=True)).mean(axis=1)
            if (apart < ALIKE * spread).mean() >= DRAWN_OUT:
                return True
    return False


def _is_bare(rows: Floats) -> bool:
    """Whether most numbers are the same one and stand together, as in filters, masks and selections; pruned weights are zero anywhere."""
    if rows.shape[1] >= FEWEST_NEIGHBOURS and (rows[:, 1:] == rows[:, :-1]).mean() < NEIGHBOURS:
        return False
    common = median(rows)
    empty = rows == common
    share = float(empty.mean())
    if share >= EMPTY:
        return True
    changes = float((empty[:, 1:] != empty[:, :-1]).mean())
    return share >= CROWDED and changes <= TOGETHER * 2 * share * (1 - share)
