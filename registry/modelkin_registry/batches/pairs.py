"""Many pairs of fingerprints held against each other at once: what each shows of the other, and which have to be looked at one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.batches.cosines import Sides
from modelkin_registry.batches.figures import Measured, measure
from modelkin_registry.batches.layouts import Layout, Stack, is_plain, layout_of
from modelkin_registry.batches.mirrored import mirrored
from modelkin_registry.batches.names import copied, names_hold
from modelkin_registry.batches.standing import Standing, stand
from modelkin_registry.counterparts.common_names import named_components
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.relations.decisions import COVERAGE_FLOOR, NORMS_ONLY_R
from modelkin_registry.relations.pairs import TINY
from modelkin_registry.relations.whole import informative_sizes

MOSTLY = 2  # one in so many
AT_ONCE = 256  # pairs of one product: 30 MB of a model of 100 matrices
Pair = tuple[Fingerprint, Fingerprint]
MATRICES, NORMS, NOTHING, UNTOLD = "matrices", "norms", "nothing", ""


class Seen(NamedTuple):
    """What a query shows of a relative.

    shows       what they have in common, as `relations.Row.shows`; UNTOLD where only holding the two against each other tells
    closeness   as of `relations.pairs.Kin`
    comparable  parameters of the query that were compared
    shared      share of what was compared that is inherited, if it is so by descent
    parts       (component, family) of the query that are inherited
    in_place    whether every layer has its counterpart at its own number
    judged      whether anything informative was compared, of sides of which enough was understood
    """

    shows: str
    closeness: float = 0.0
    comparable: int = 0
    shared: float = 0.0
    parts: frozenset[tuple[str, str]] = frozenset()
    in_place: bool = True
    judged: bool = True

    @property
    def r(self) -> float:
        """Mean correlation of what is inherited, 0 where nothing is."""
        return min(self.closeness / self.shared, 1.0) if self.shared else 0.0


UNSEEN = Seen(UNTOLD)


class Group(Struct, frozen=True, dict=True):
    """Pairs of one layout each, held against each other: `numbers` are their places among those given, and `measured` by components."""

    numbers: tuple[int, ...]
    sides: Sides
    judge: Judge
    measured: dict[tuple[str, str], Measured]

    @cached_property
    def standing(self) -> dict[tuple[str, str], Standing]:
        """What each pair of components shows."""
        return {names: stand(found, self.sides, self.judge) for names, found in self.measured.items()}

    @cached_property
    def told(self) -> npt.NDArray[np.bool_]:
        """Of which pairs this says all; the others have to be held one by one."""
        apart = np.logical_or.reduce([found.apart for found in self.standing.values()])
        return np.asarray(names_hold(self.sides, self.judge) & ~copied(self.sides) & ~apart, np.bool_)

    def seen(self) -> Iterator[tuple[int, Seen]]:
        """What each pair shows, by its number."""
        told, query = self.told, layout_of(self.sides.query.models[0])
        queries = [self.sides.query.models[at].about.coverage for at in self.sides.query.at.tolist()]
        relatives = [self.sides.relative.models[at].about.coverage for at in self.sides.relative.at.tolist()]
        everything = informative_parameters(query) / np.maximum(queries, TINY)
        enough = np.minimum(queries, relatives) >= COVERAGE_FLOOR
        closeness = np.sum([found.weight for found in self.standing.values()], axis=0) / np.maximum(everything, TINY)
        comparable = np.sum([found.comparable for found in self.measured.values()], axis=0)
        inherited = np.sum([found.parameters for found in self.standing.values()], axis=0)
        shared = np.round(inherited / np.maximum(comparable, 1), 4)
        in_place = np.logical_and.reduce([found.in_place for found in self.measured.values()])
        norms = np.logical_or.reduce([one.judged & one.norms & (one.norms_r >= NORMS_ONLY_R) for one in self.standing.values()])
        judged = np.logical_or.reduce([one.judged for one in self.standing.values()])
        families = [(names[0], family, kept) for names, one in self.standing.items() for family, kept in one.inherited.items()]
        for at, number in enumerate(self.numbers):
            if not told[at] or (inherited[at] > 0 and not enough[at]):
                yield number, UNSEEN
            elif inherited[at] > 0:
                parts = frozenset((component, family) for component, family, kept in families if kept[at])
                yield number, Seen(MATRICES, float(closeness[at]), int(comparable[at]), float(shared[at]), parts, bool(in_place[at]))
            else:
                shows = NORMS if enough[at] and norms[at] else NOTHING
                yield number, Seen(shows, 0.0, int(comparable[at]), judged=bool(enough[at] and judged[at]))

    def seen_back(self) -> Iterator[tuple[int, Seen]]:
        """What each pair shows the other way round, of those of which that is the same; none where most are other ones."""
        same = np.logical_and.reduce([mirrored(found, self.sides) for found in self.measured.values()])
        if MOSTLY * np.count_nonzero(same) >= len(same):
            turned = replace(self, sides=self.sides.turned())
            turned.__dict__["standing"] = self.standing  # of the same figures
            yield from (seen for seen, is_same in zip(turned.seen(), same.tolist(), strict=True) if is_same)


def groups(pairs: Sequence[Pair], judge: Judge) -> Iterator[Group]:
    """Pairs that may be held against each other at once, measured; those that may not are in none of the groups."""
    for numbers, query, relative in _alike(pairs):
        yield from _group(numbers, query, relative, judge)


def _alike(pairs: Sequence[Pair]) -> Iterator[tuple[tuple[int, ...], Stack, Stack]]:
    """Places of pairs of one layout each among those given, and both sides of them."""
    alike: dict[tuple[Layout, Layout], list[int]] = defaultdict(list)
    plain: dict[int, bool] = {}
    for number, pair in enumerate(pairs):
        if all(plain[id(side)] if id(side) in plain else plain.setdefault(id(side), is_plain(side)) for side in pair):
            alike[layout_of(pair[0]), layout_of(pair[1])].append(number)
    for numbers in alike.values():
        for start in range(0, len(numbers), AT_ONCE):
            chosen = numbers[start : start + AT_ONCE]
            first, second = (Stack([pairs[number][side] for number in chosen]) for side in (0, 1))
            yield tuple(chosen), first, second


def _group(numbers: tuple[int, ...], query: Stack, relative: Stack, judge: Judge) -> Iterator[Group]:
    """These pairs as a group; nothing where no components stand for each other."""
    names = named_components(query.models[0].about, relative.models[0].about)
    if names:
        sides = [Sides(query, relative, both) for both in names]
        yield Group(numbers, sides[0], judge, {one.components: measure(one, judge) for one in sides})


def screened(pairs: Sequence[Pair], judge: Judge) -> list[Seen]:
    """What the first of each pair shows of the second, in the order given."""
    found = [UNSEEN] * len(pairs)
    for group in groups(pairs, judge):
        for number, seen in group.seen():
            found[number] = seen
    return found


def screened_both_ways(pairs: Sequence[Pair], judge: Judge) -> list[tuple[Seen, Seen]]:
    """The same, and what the second shows of the first: what the fingerprints hold is put together once for both."""
    ahead, back = dict[int, Seen](), dict[int, Seen]()
    for numbers, first, second in _alike(pairs):
        for group in _group(numbers, first, second, judge):
            ahead |= group.seen()
            back |= group.seen_back()
        left = [at for at, number in enumerate(numbers) if number not in back]
        if left:
            first, second = (side if len(left) == len(numbers) else side.of(left) for side in (first, second))
            for group in _group(tuple(numbers[at] for at in left), second, first, judge):
                back |= group.seen()
    return [(ahead.get(number, UNSEEN), back.get(number, UNSEEN)) for number in range(len(pairs))]


def informative_parameters(layout: Layout) -> int:
    """As `relations.whole.informative_sizes`, summed; of all fingerprints of a layout the same."""
    known = layout.example.matrices.worked_out
    if informative_parameters not in known:
        known[informative_parameters] = sum(informative_sizes(layout.example).values())
    return int(known[informative_parameters])
