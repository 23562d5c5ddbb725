"""Registered models held against each other by their numbers, many at once: which pairs stand out, and what they are to each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

from modelkin_registry.answers.relations import RELATIONS
from modelkin_registry.batches.pairs import MATRICES, NORMS, NOTHING, UNTOLD, Pair, Seen, screened
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.relations.pairs import measure_kin
from modelkin_registry.search.known import Known
from modelkin_registry.search.questioned import Questioned

AT_ONCE = 512  # pairs whose fingerprints are in memory at once
KEPT = 1024  # fingerprints kept from one such lot to the next
Numbers = tuple[int, int]  # revisions: the one that asks, and the one that it is held against
WITHOUT_EVIDENCE = {NOTHING: "unrelated", NORMS: "norms only"}  # relations that are known without holding two against each other


def seen(known: Known[Questioned], pairs: Iterable[Numbers], judge: Judge) -> Iterator[tuple[Numbers, Seen]]:
    """What each pair shows, in the order given."""
    return ((numbers, one) for numbers, _, one in _seen(known, pairs, judge))


def _seen(known: Known[Questioned], pairs: Iterable[Numbers], judge: Judge) -> Iterator[tuple[Numbers, Pair, Seen]]:
    read = lru_cache(maxsize=KEPT)(known.numbered)
    waiting = iter(pairs)
    while some := list(islice(waiting, AT_ONCE)):
        sides = [(read(query), read(relative)) for query, relative in some]
        yield from zip(some, sides, screened(sides, judge), strict=True)


def standing_out(known: Known[Questioned], pairs: Iterable[Numbers], judge: Judge) -> Iterator[Numbers]:
    """The pairs between which there is evidence, or of which only holding the two against each other tells: all others have none."""
    return (pair for pair, one in seen(known, pairs, judge) if one.shows in (MATRICES, UNTOLD))


def relations(known: Known[Questioned], pairs: Iterable[Numbers], judge: Judge) -> Iterator[tuple[Numbers, str]]:
    """The relation of each pair, as a query would tell it: held against each other are those alone that stand out."""
    for numbers, sides, one in _seen(known, pairs, judge):
        told = WITHOUT_EVIDENCE.get(one.shows)
        if told is None:
            told = measure_kin(*sides, "", judge).relative.relation
        elif not one.judged:
            told = "not comparable"
        assert told in RELATIONS
        yield numbers, told
