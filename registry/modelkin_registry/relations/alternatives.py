"""Which explanations of descent no fact excludes: the query from the relative, the relative from the query, both from a third.

A change that loses numbers goes one way: values on a quantiser's grid, cleared or cut ones. A layer that stands twice loses none: the
network may have been taken out of a file that holds two of it (a running average, a target). That both come from a third model is never
excluded by one pair alone: the third may be all that they have in common.
"""

from __future__ import annotations

from modelkin_registry.answers.parts import ALTERNATIVES
from modelkin_registry.evidence.places import ComponentPair
from modelkin_registry.relations.decisions import Relation

FROM_QUERY = ALTERNATIVES[1]
LOSSES = ("quantized", "pruned", "upcycled")  # what the query's numbers show to have been done to it, and cannot be undone


def alternatives(relation: Relation, pairs: list[ComponentPair]) -> tuple[str, ...]:
    """The explanations that stand, in the order of ALTERNATIVES; none where there is no descent."""
    if not relation.is_descent:
        return ()
    names = {relation.name, *relation.also}
    lost = not names.isdisjoint(LOSSES) and not _stored_rounded(pairs)
    return tuple(way for way in ALTERNATIVES if way != FROM_QUERY or not lost)


def _stored_rounded(pairs: list[ComponentPair]) -> bool:
    """Whether the relative is the one that is stored rounded: then the relation is read from the other side."""
    return any(pair.relative.about.quantization and not pair.query.about.quantization for pair in pairs)
