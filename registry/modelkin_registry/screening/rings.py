"""Submissions against one another: which pairs nothing explains, and the rings that these make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from modelkin_registry.answers.relations import COPIES
from modelkin_registry.screening.declared import ANY
from modelkin_registry.screening.explained import Entry, Judge
from modelkin_registry.screening.measured import Kinship
from modelkin_registry.screening.results import Ring
from modelkin_registry.screening.sentences import ring_sentence

# Two submissions of one base are told as nearer to one another than to it where their mean 1 - r is below this share of the smaller one's
# to the base. Independent changes of equal size give 2, changes that correlate by rho 2 (1 - rho): the half needs rho above 0.75.
NEARER = 0.5
COPY, KIN, NEAR = "copy-of-submission", "kin-of-submission", "nearer-than-base"


class Between(Struct, frozen=True):
    """What two submissions have in common: the kinships of the first, whose `relative` is the second."""

    first: str
    second: str
    rows: tuple[Kinship, ...]


class Tie(Struct, frozen=True):
    """A pair that a rule is met by. `base` is what both are kin to, where that is told."""

    between: Between
    row: Kinship
    rule: str
    base: str | None = None

    @property
    def ends(self) -> tuple[str, str]:
        return self.between.first, self.between.second


def tie(judge: Judge, between: Between) -> Tie | None:
    """The rule that a pair meets; None where something declared, allowed or registered explains it."""
    first, second = judge.entries[between.first], judge.entries[between.second]
    if judge.declares(second, first) or judge.declares(first, second):
        return None
    copied = next((row for row in between.rows if row.whole in COPIES), None)
    if copied is not None:
        return None if _copies_of_one(first, second) else Tie(between, copied, COPY)
    found = [one for row in between.rows if (one := _tie(judge, between, row, first, second)) is not None]
    return min(found, key=lambda one: one.rule != KIN) if found else None


def _copies_of_one(first: Entry, second: Entry) -> bool:
    """Whether both are copies of one registered model: their likeness says nothing more, and whether each may be is judged by itself."""
    ours, theirs = ({row.relative for row in one.measured.kin if row.whole in COPIES} for one in (first, second))
    return bool(ours & theirs)


def _tie(judge: Judge, between: Between, row: Kinship, first: Entry, second: Entry) -> Tie | None:
    if ANY in judge.parts(first, row.component) and ANY in judge.parts(second, row.relative_component):
        return None
    theirs = {one.relative: one for one in second.measured.kin if one.component == row.relative_component}
    common = [(one, theirs[one.relative]) for one in first.measured.kin if one.component == row.component and one.relative in theirs]
    if not common:
        return Tie(between, row, KIN)
    nearest = min(common, key=lambda pair: (min(one.apart for one in pair), pair[0].relative))
    if row.apart < NEARER * min(one.apart for one in nearest):
        return Tie(between, row, NEAR, nearest[0].relative)
    return None


def rings_of(ties: Iterable[Tie], order: Sequence[str]) -> tuple[Ring, ...]:
    """Submissions that lead to one another by unexplained pairs, in the order of the batch."""
    ring = {name: {name} for name in order}
    copies: set[str] = set()
    for one in (one for one in ties if one.rule in (COPY, KIN)):
        joined = ring[one.ends[0]] | ring[one.ends[1]]
        ring |= dict.fromkeys(joined, joined)
        copies |= set(one.ends) if one.rule == COPY else set()
    members = dict.fromkeys(tuple(name for name in order if name in found) for found in ring.values() if len(found) > 1)
    found = sorted(members, key=lambda names: order.index(names[0]))
    return tuple(
        Ring(f"ring-{number}", names, alike := copies.issuperset(names), ring_sentence(names, copies=alike))
        for number, names in enumerate(found, 1)
    )
