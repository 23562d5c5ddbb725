"""Whether a place of a model holds a fixed table: small tensors are read whole for it, large ones where some rows are unlike weights."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import numpy.typing as npt

from modelkin_indexer.anatomy.constants.fixed_tables import looks_fixed, rows_reason, table_reason
from modelkin_indexer.anatomy.constants.formulas import banks
from modelkin_indexer.places import Piece, TensorInfo, View
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
SMALL = 1 << 12  # numbers of a tensor that is always looked at whole: 16 KB
NARROW, LONGEST = 8, 1 << 16  # rows or columns of one that is looked at whole up to this size: so few tell nothing (points, boxes)
LARGEST = 1 << 20  # numbers of one that is read whole if it looks fixed; of a larger one more rows are read
MOST_LINES = 1024  # of rows that are themselves tables
MORE_BLOCKS, BLOCK_ROWS = 64, 4  # rows of those: whoever hides weights behind rows of a table would have to give up this many


def fixed_reason(source: Source, piece: Piece, rows: Singles, numbers: Ints, held: Singles | None = None) -> str:
    """Why a matrix is a fixed table, "" if it may be weights.

    `rows` are some of its rows, `numbers` where they stand; `held` all its numbers as they are stored, where they are at hand.
    """
    view = piece.views[0]
    if len(piece.views) > 1 or np.isnan(rows).any():
        return ""
    whole, info = is_whole(source, view), source.tensors[view.tensor]
    if not is_small(source, piece) and not any(looks_fixed(*lines) for lines in _seen(rows, numbers, info)):
        return ""
    if whole and piece.parameters <= LARGEST:
        return table_reason(held.reshape(info.shape) if held is not None else whole_tensor(source, info))
    more = _more_rows(view)
    rows = np.concatenate([values.read_rows(source, view, start, stop) for start, stop in more])
    reasons = (rows_reason(*lines) for lines in _seen(rows, _numbers(more), info))
    return next((reason for reason in reasons if reason), "")


def is_trained_bank(source: Source, piece: Piece, rows: Singles) -> bool:
    """Whether a matrix is a bank of filters that a formula started, whatever training made of it. `rows` are some of its rows."""
    view = piece.views[0]
    if len(piece.views) > 1 or not np.isfinite(rows).all() or not banks.narrow(rows[:1].astype(np.float64)):
        return False
    if not banks.narrow(rows.astype(np.float64)):
        return False
    more = [(0, view.rows)] if piece.parameters <= LARGEST else _more_rows(view)
    return banks.ordered(np.concatenate([values.read_rows(source, view, start, stop) for start, stop in more]).astype(np.float64))


def _seen(rows: Singles, numbers: Ints, info: TensorInfo) -> Iterator[tuple[Singles, Ints]]:
    """Rows as they are, and where a row is itself a table or some kernels, as the lines of these."""
    yield rows, numbers
    axes = [n for n in info.shape if n > 1]
    width = axes[-1] if len(axes) < 4 else axes[-1] * axes[-2]
    if len(axes) > 1 and 1 < width < rows.shape[1] and rows.shape[1] % width == 0 and not info.transposed:
        lines = rows.reshape(-1, width)[:MOST_LINES]
        yield lines, np.arange(len(lines))


def is_small(source: Source, piece: Piece) -> bool:
    """Whether a matrix is always looked at whole."""
    view = piece.views[0]
    most = LONGEST if min(view.rows, view.columns) <= NARROW else SMALL
    return len(piece.views) == 1 and piece.parameters <= most and is_whole(source, view)


def is_held(source: Source, piece: Piece) -> bool:
    """Whether all numbers of a matrix are kept while it is measured: it is small, and stored as it is seen."""
    view = piece.views[0]
    plain = view.strides == (view.columns, 1) and not source.tensors[view.tensor].transposed
    return plain and is_small(source, piece)


def is_whole(source: Source, view: View) -> bool:
    """Whether a view shows all numbers of its tensor."""
    return prod(view.shape) == source.tensors[view.tensor].elements


def whole_tensor(source: Source, info: TensorInfo) -> Singles:
    """All values of a tensor, in its own shape."""
    numbers = values.read_rows(source, View(info.name, 0, (1, info.elements), (info.elements, 1)), 0, 1)
    return numbers.reshape(info.shape[::-1]).T if info.transposed else numbers.reshape(info.shape)


def _more_rows(view: View) -> list[tuple[int, int]]:
    """Blocks of rows all over a matrix."""
    step = max(1, view.rows // MORE_BLOCKS)
    starts = range(0, view.rows, max(step, BLOCK_ROWS))
    return [(start, min(start + BLOCK_ROWS, view.rows)) for start in starts]


def _numbers(blocks: list[tuple[int, int]]) -> Ints:
    return np.concatenate([np.arange(start, stop) for start, stop in blocks])
