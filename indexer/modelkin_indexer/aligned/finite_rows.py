"""Rows of weights that arithmetic can be done with. At level probe few rows are looked at, so what an alignment reads may be the first
look at a row that holds no number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.errors import UnusableValues
from modelkin_indexer.places import View
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

LARGEST = 1e15  # above it the squares of a row's 16,384 numbers may sum to no float32; weights that work stay below 1e5


def finite_rows(source: Source, view: View, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Values of rows [start, stop) of a view, float32 [stop - start, columns].

    Raises:
        UnusableValues: NaN, infinite or absurdly large ones are among them.
        SourceError: they cannot be read.
    """
    block = values.read_rows(source, view, start, stop)
    if not np.all(np.abs(block) <= LARGEST):  # false of NaN too
        problem = f"contains values that are no finite numbers below {LARGEST:.0e}"
        remedy = "Such weights cannot be aligned; ask the publisher for a sound file."
        raise UnusableValues(problem, path=source.path, tensor=view.tensor, remedy=remedy)
    return block
