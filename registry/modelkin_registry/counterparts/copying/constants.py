"""Tensors whose numbers are all equal: no evidence, but where the other model has learned ones in their place, it is no copy."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.once import once

Shape = tuple[int, int]  # rows and columns; of a vector 1 and its length
FEW = 2  # numbers of tensors that say something at their own place only: graphs hold so few for other reasons
SAME = 2.5e-3  # relative: one number in two number formats (bfloat16 is off by 2^-9)


def constants_replaced(query: Fingerprint, relative: Fingerprint, extra: Iterable[Shape]) -> bool:
    """Whether a constant tensor of the query is another one in the relative: gains set to one, biases or matrices cleared.

    `extra` are the shapes of the relative's other tensors that the query lacks. A constant may be missing there: exporters drop them.
    """
    ours, theirs, more = _constants(query), _constants(relative), Counter(extra)
    for shape, values in ours.items():
        left = theirs.get(shape, {})
        if shape[0] * shape[1] <= FEW:
            if any(place in left and not _equal(value, left[place]) for place, value in values.items()):
                return True
            continue
        free = list(left.values())
        unmatched = False
        for value in values.values():
            found = next((at for at, other in enumerate(free) if _equal(value, other)), None)
            if found is None:
                unmatched = True
            else:
                free.pop(found)
        if unmatched and (free or more[shape]):
            return True
    return False


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= SAME * max(abs(a), abs(b))


@once
def _constants(model: Fingerprint) -> Mapping[Shape, Mapping[Place, float]]:
    """The number that each constant tensor holds, by shape and place."""
    found: dict[Shape, dict[Place, float]] = defaultdict(dict)
    table, vectors = model.matrices, model.vectors
    for row, place in enumerate(table.places):
        if not table.sd[row] > 0:
            found[int(table.rows[row]), int(table.columns[row])][place] = float(table.mean[row])
    for row, place in enumerate(vectors.places):
        if vectors.constant[row]:
            found[1, int(vectors.length[row])][place] = float(vectors.mean[row])
    return found
