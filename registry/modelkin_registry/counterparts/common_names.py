"""Two models under one naming, and which component of the one stands for which of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from modelkin_indexer.results.fingerprint import About, Fingerprint
from modelkin_registry.counterparts.left_over import matrices_left, vectors_left
from modelkin_registry.counterparts.matching import matched
from modelkin_registry.counterparts.names.by_tensor import by_tensor
from modelkin_registry.counterparts.names.renaming import adopt, turned
from modelkin_registry.counterparts.names.seen_as import without_twins
from modelkin_registry.counterparts.opened import opened
from modelkin_registry.counterparts.pairing import NAME, Pair, Pairs
from modelkin_registry.evidence.judge import Judge

UNTOLD = 0.5  # share of the bytes whose names tell nothing, from which a model is read under another's names
LINKED = 0.5  # share of what is paired of a component that is another's, from which it is held against that one


class Common(Struct, frozen=True):
    """Both sides under one naming. `pairs` are those that made it so, empty where names were good enough.

    `own_names` are the query and the relative under their own names, row by row the same.
    """

    query: Fingerprint
    relative: Fingerprint
    components: tuple[tuple[str, str], ...]
    pairs: Pairs
    own_names: tuple[Fingerprint, Fingerprint]


def under_common_names(query: Fingerprint, relative: Fingerprint, judge: Judge) -> Common:
    """The relative under the query's names where contents show that they differ; the query under the relative's if its own tell nothing."""
    query, relative = _stacks_opened(query, relative)
    pairs = matched(query, relative, judge, nameless=max(untold(query.about), untold(relative.about)) > UNTOLD)
    if untold(query.about) > UNTOLD and untold(relative.about) < untold(query.about):
        query, pairs = without_twins(query, relative, pairs)
        pairs = _with_rest(query, relative, pairs)
        own_names = query, relative
        query = adopt(query, relative, pairs)
    elif pairs or untold(relative.about) > UNTOLD:
        back = turned(pairs)
        if untold(relative.about) > UNTOLD:
            relative, back = without_twins(relative, query, back)
            back = _with_rest(relative, query, back)
        own_names = query, relative
        relative, pairs = adopt(relative, query, back), turned(back)
    else:
        return Common(query, relative, named_components(query.about, relative.about), pairs, (query, relative))
    return Common(query, relative, _linked_components(query, relative, pairs), pairs, own_names)


def named_further(named: Fingerprint, query: Fingerprint, relative: Fingerprint, judge: Judge) -> Fingerprint:
    """A query that was read under one relative's names, with components that another relative tells of what the first left unnamed."""
    left = set(query.matrices.places).intersection(named.matrices.places)
    if not left:
        return named
    _, relative = _stacks_opened(named, relative)
    pairs, known = matched(named, relative, judge), {place.component for place in named.matrices.places if place not in left}
    matrices = [
        pair
        for pair in pairs.matrices
        if named.matrices.places[pair.ours] in left and relative.matrices.places[pair.theirs].component not in known
    ]
    vectors = [
        pair
        for pair in pairs.vectors
        if named.vectors.places[pair.ours] in query.vectors.places and relative.vectors.places[pair.theirs].component not in known
    ]
    return by_tensor(named, relative, Pairs(tuple(matrices), tuple(vectors))) if matrices else named


def _stacks_opened(query: Fingerprint, relative: Fingerprint) -> tuple[Fingerprint, Fingerprint]:
    if not (len(query.experts) or len(relative.experts)):
        return query, relative
    query, relative = opened(query, relative, untold(query.about) > UNTOLD)
    relative, query = opened(relative, query, untold(relative.about) > UNTOLD)
    return query, relative


def untold(about: About) -> float:
    """Share of the bytes whose names tell nothing."""
    return about.guessed + 1 - about.coverage


def _with_rest(query: Fingerprint, relative: Fingerprint, pairs: Pairs) -> Pairs:
    """The pairs, and what shapes alone make of the rest."""
    ours, theirs = _left(len(query.matrices), len(relative.matrices), pairs.matrices)
    matrices = (*pairs.matrices, *matrices_left(query, relative, ours, theirs))
    ours, theirs = _left(len(query.vectors), len(relative.vectors), pairs.vectors)
    return Pairs(matrices, (*pairs.vectors, *vectors_left(query, relative, ours, theirs)))


def _left(ours: int, theirs: int, pairs: Sequence[Pair]) -> tuple[list[int], list[int]]:
    """Rows of tables of these lengths that stand in no pair."""
    mine, their = {pair.ours for pair in pairs}, {pair.theirs for pair in pairs}
    return [row for row in range(ours) if row not in mine], [row for row in range(theirs) if row not in their]


def named_components(ours: About, theirs: About) -> tuple[tuple[str, str], ...]:
    """Pairs of components: those of one name; what has no namesake, with every component that is left over on the other side.

    A vision tower is not a language model, but what one file calls `text` another may call `audio`.
    """
    pairs = [(component, component) for component in ours.components if component in theirs.components]
    lone = [c for c in ours.components if c not in theirs.components]
    left = [c for c in theirs.components if c not in ours.components] or list(theirs.components)
    return (*pairs, *((component, other) for component in lone for other in left))


def _linked_components(query: Fingerprint, relative: Fingerprint, pairs: Pairs) -> tuple[tuple[str, str], ...]:
    """The same, but a component most of whose paired weights are in another of theirs is held against that one."""
    weights: Counter[tuple[str, str]] = Counter()
    for pair in pairs.matrices:
        if pair.found != NAME:
            names = query.matrices.places[pair.ours].component, relative.matrices.places[pair.theirs].component
            weights[names] += int(query.matrices.parameters[pair.ours])
    total = Counter[str]()
    for (ours, _), size in weights.items():
        total[ours] += size
    linked = {ours: theirs for (ours, theirs), size in weights.items() if size > LINKED * total[ours]}
    named = named_components(query.about, relative.about)
    kept = [(ours, theirs) for ours, theirs in named if ours not in linked]
    return (*((ours, theirs) for ours, theirs in sorted(linked.items())), *kept)
