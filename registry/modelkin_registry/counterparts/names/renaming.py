"""One model under the other's names, by the pairs that contents made of their tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.counterparts.names.by_role import by_role
from modelkin_registry.counterparts.names.by_tensor import by_tensor
from modelkin_registry.counterparts.pairing import Pair, Pairs

AGREE = 0.95  # share of the pairs that follow one rule (role by role, layer by layer) from which the rule is what was renamed


def turned(pairs: Pairs) -> Pairs:
    """The same seen from the other side."""
    return Pairs(*(tuple(Pair(p.theirs, p.ours, p.found, p.repeats) for p in side) for side in (pairs.matrices, pairs.vectors)))


def adopt(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> Fingerprint:
    """`side` (ours in the pairs) under the names of `reference`: role by role where roles were renamed, else tensor by tensor."""
    ways = by_role if _renames_roles(side, reference, pairs) else by_tensor
    return ways(side, reference, pairs)


def _renames_roles(side: Fingerprint, reference: Fingerprint, pairs: Pairs) -> bool:
    """Whether layers and roles of the one are layers and roles of the other, under other numbers and words."""
    both = [(side.matrices.places[p.ours], reference.matrices.places[p.theirs]) for p in pairs.matrices]
    layered = [(a, b) for a, b in both if a.layer != NO_LAYER and b.layer != NO_LAYER]
    if sum((a.layer == NO_LAYER) != (b.layer == NO_LAYER) for a, b in both) > (1 - AGREE) * len(both):
        return False
    rules: list[Callable[[Place], tuple[object, ...]]] = [lambda p: (p.component, p.layer), lambda p: (p.component, *p[2:])]
    return all(_follows(pairs_of, rule) for pairs_of, rule in ((layered, rules[0]), (both, rules[1])))


def _follows(both: Sequence[tuple[Place, Place]], rule: Callable[[Place], tuple[object, ...]]) -> bool:
    """Whether what `rule` takes of ours tells what it takes of theirs, and the other way round."""
    counts = Counter((rule(a), rule(b)) for a, b in both)
    for at in (0, 1):
        most: dict[object, int] = {}
        for key, count in counts.items():
            most[key[at]] = max(most.get(key[at], 0), count)
        if sum(most.values()) < AGREE * len(both):
            return False
    return True
