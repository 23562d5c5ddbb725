"""Whether a model may be another's copy by a step that does not go back, as far as both fingerprints tell before they are held together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.nulls import median
from modelkin_registry.evidence.places import SHOWN_AS
from modelkin_registry.relations.deltas import GRID_RATIO, NEW_ZEROS
from modelkin_registry.screening.layouts import Layout, layout_of

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
        zeros = a.zeros[rows].astype(float) - b.zeros[rows].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            grid = a.distinct[rows].astype(float) / b.distinct[rows].astype(float)
            back = b.distinct[rows].astype(float) / a.distinct[rows].astype(float)
        if abs(median(zeros)) >= NEW_ZEROS or not min(median(grid), median(back)) >= GRID_RATIO:
            return True
    return False


def _families(layout: Layout) -> dict[tuple[str, str], Rows]:
    """Rows of each component's families, as these are told."""
    known = layout.example.matrices.worked_out
    if _families not in known:
        keys = [(place.component, SHOWN_AS.get(place.family, place.family)) for place in layout.places]
        known[_families] = {key: np.flatnonzero([one == key for one in keys]) for key in dict.fromkeys(keys)}
    return known[_families]  # type: ignore[no-any-return]
