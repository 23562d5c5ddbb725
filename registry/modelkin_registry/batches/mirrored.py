"""Which pairs show the same the other way round, so that one direction is worked out for both.

Two models of one layout, at level probe, each of whose layers has its counterpart at its own number, seen from either side: then cosines,
nulls and sums over them are the same numbers in the same order. In gram and anchored sums over neighbours run along the other axis, and
fewer cells than a median is taken of are summed in another order: the last digit may differ, so such pairs are worked out both ways.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelkin_registry.batches.cosines import Sides
from modelkin_registry.batches.figures import Aligned, Measured
from modelkin_registry.batches.layouts import layout_of, own_numbers
from modelkin_registry.evidence.nulls import FEWEST_MISMATCHES

Bools = npt.NDArray[np.bool_]
EITHER_WAY = 2  # numbers whose sum does not depend on their order


def mirrored(measured: Measured, sides: Sides) -> Bools:
    """Of pairs (pairs,) whether what the query shows of the relative is what the relative shows of the query."""
    layout = layout_of(sides.query.models[0])
    if layout is not layout_of(sides.relative.models[0]) or layout.channels != ("probe",) or not all(map(_is_square, measured.aligned)):
        return np.zeros(sides.count, np.bool_)
    numbers = (stack.column("behind", own_numbers)[stack.at] for stack in (sides.query, sides.relative))
    equal = np.equal(*numbers).all(axis=1)
    known = [np.isfinite(one.block.cosines).all(axis=(1, 2, 3)) for one in measured.aligned]
    return np.asarray(np.logical_and.reduce([equal, *known, measured.in_place, measured.maps.in_place_back()]), np.bool_)


def _is_square(aligned: Aligned) -> bool:
    """Whether a block has the same layers on both sides, and cells beside the matched ones whose order says nothing."""
    count = len(aligned.block.query_layers)
    others = count * (count - 1)
    return np.array_equal(aligned.block.query_layers, aligned.block.relative_layers) and (
        others <= EITHER_WAY or others >= FEWEST_MISMATCHES
    )
