"""Whether a model may be another's copy by a step that does not go back, as far as both fingerprints tell before they are held together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.batches.layouts import Layout, layout_of
from modelkin_registry.evidence.places import SHOWN_AS
from modelkin_registry.relations.deltas import GRID_RATIO, NEW_ZEROS

BODY = ("attention", "mlp")  # families by which grids and zeros are told where they are inherited
Rows = npt.NDArray[np.int64]


def may_be_one_way(ours: Fingerprint, theirs: Fingerprint, inherited: Iterable[tuple[str, str]]) -> bool:
    """False only where neither side can be a quantised, pruned or upcycled copy of the other; layers are at their own numbers.

    A quantiser's grid and new zeros are told by medians over the matrices of the inherited families (relations/deltas.py), and a median
    over several families lies between theirs. `inherited` are these families, by component.
    """
    layout = layout_of(ours)
    if layout is not layout_of(theirs) or ours.about.quantization != theirs.about.quantization:
        return True
    a, b = ours.matrices, theirs.matrices
    known, wanted = _families(layout), set(inherited)
    bodies = {one for one in wanted if one[1] in BODY} or wanted
    for rows in (rows for key, rows in known.items() if key in bodies):
        (zeros, distinct), (others, further) = _statistics(a, rows), _statistics(b, rows)
        most = len(rows) // 2  # with more on one side of a limit the median is there too
        few = np.count_nonzero(np.abs(zeros - others) < NEW_ZEROS) > most
        coarse = np.count_nonzero(distinct >= GRID_RATIO * further) > most and np.count_nonzero(further >= GRID_RATIO * distinct) > most
        if not (few and coarse):
            return True
    return False


def _statistics(table: Matrices, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Shares of zeros and of distinct magnitudes of some rows, as numbers that are quick to reckon with."""
    known = table.worked_out
    if _statistics not in known:
        known[_statistics] = table.zeros.astype(np.float64), table.distinct.astype(np.float64)
    zeros, distinct = known[_statistics]
    return zeros[rows], distinct[rows]


def _families(layout: Layout) -> dict[tuple[str, str], Rows]:
    """Rows of each component's families, as these are told."""
    known = layout.example.matrices.worked_out
    if _families not in known:
        keys = [(place.component, SHOWN_AS.get(place.family, place.family)) for place in layout.places]
        known[_families] = {key: np.flatnonzero([one == key for one in keys]) for key in dict.fromkeys(keys)}
    return known[_families]  # type: ignore[no-any-return]
