"""Pairs of registered models for a family tree: what many pairs at once show, and in full only where the tree rests on it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import networkx
import numpy as np

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import BLIND
from modelkin_registry.batches.pairs import MATRICES, UNTOLD, Seen, screened_both_ways
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS
from modelkin_registry.relations.pairs import Held, hold
from modelkin_registry.search.known import Known
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.pairs.facts import Facts, comparable_share, facts_of
from modelkin_registry.trees.pairs.kept import KeptPairs, Told, under
from modelkin_registry.trees.pairs.links import Link, Views
from modelkin_registry.trees.pairs.one_way import may_be_one_way

Pair = tuple[str, str]
Numbers = tuple[int, int]
KEPT = 1024  # fingerprints in memory at once: 200 MB
AT_ONCE = 256  # pairs that are looked at together
FEWEST_SLOPES = 8  # matrices from which slopes are compared
LEAST_SLOPE_GAP = 0.02  # mean difference of slopes below which sketches of a few dozen matrices tell nothing (noise of one: 0.09 x change)
TINY = 1e-12  # instead of no spread at all, where every slope is the same


class Measurer:
    """Holds registered models against each other, each pair once, with a bounded number of fingerprints in memory."""

    def __init__(self, known: Known[Store], judge: Judge) -> None:
        self.known = known
        self.ids: dict[str, int] = {}
        self.names: dict[int, str | None] = {}  # older revisions too; None of a model that has no place in a tree
        self.prints: dict[str, int] = {}  # the numbers of the fingerprints that stand for models
        self.fingerprint = lru_cache(maxsize=KEPT)(self._load)
        self.judge = judge
        self.links: dict[Pair, Link | None] = {}
        self.screened: dict[Pair, tuple[Seen, Seen]] = {}
        self.kept = KeptPairs(known.store, judge)
        self.near: dict[str, dict[str, Link]] = defaultdict(dict)
        self.looked_at: set[Pair] = set()
        self._facts: dict[str, Facts] = {}

    def look_up(self, revisions: Iterable[int]) -> None:
        """Learn what the models are called that these revisions are of, and which revision is their current one."""
        store = self.known.store
        models = store.models_of(sorted({number for number in revisions if number not in self.names}))
        newest = store.newest_of(set(models.values()))
        names = store.names_of(newest.values())
        self.ids |= {names[number]: number for number in newest.values()}
        self.prints |= {names[number]: at for number, at in store.standing(newest.values()).items()}
        self.names |= {number: names[newest[model]] if model in newest else None for number, model in models.items()}

    def _load(self, name: str) -> Fingerprint:
        found = self.known.numbered(self.ids[name])
        if name not in self._facts:
            self._facts[name] = facts_of(found)
        return found

    def facts(self, name: str) -> Facts:
        """What the tree needs of a model, whose fingerprint is read for it once."""
        if name not in self._facts:
            self.fingerprint(name)
        return self._facts[name]

    def screen(self, pairs: Iterable[Pair]) -> None:
        """Look at many pairs at once, for the links that are asked for next."""
        wanted = [pair for pair in dict.fromkeys(self._ordered(*pair) for pair in pairs) if pair not in self.links]
        self.kept.look_up({self.prints[a] for a, _ in wanted})
        wanted = [pair for pair in wanted if pair not in self.screened and self._numbers(pair) not in self.kept]
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            sides = [(self.fingerprint(a), self.fingerprint(b)) for a, b in some]
            self.screened |= dict(zip(some, screened_both_ways(sides, self.judge), strict=True))

    def link(self, one: str, other: str) -> Link | None:
        """The evidence between two models, None where there is none."""
        pair = self._ordered(one, other)
        if pair not in self.links:
            self.looked_at.add(pair)
            self.links[pair] = link = self._measured(*pair)
            if link is not None:
                self.near[link.a][link.b] = self.near[link.b][link.a] = link
        return self.links[pair]

    def relation(self, name: str, other: str) -> str:
        """What another registered model is to this one, be it among those that were looked up or not."""
        if other not in self.ids:
            self.look_up(self.known.store.current_of([other]))
        if other not in self.ids:  # of an older spec
            return "not comparable"
        link = self.link(name, other)
        if link is not None:
            return link.view(name).relation
        return hold(self.fingerprint(name), self.fingerprint(other), other, self.judge).kin(brief=True).relative.relation

    def _ordered(self, one: str, other: str) -> Pair:
        return (one, other) if (self.facts(one).parameters, one) <= (self.facts(other).parameters, other) else (other, one)

    def _numbers(self, pair: Pair) -> Numbers:
        return self.prints[pair[0]], self.prints[pair[1]]

    def _measured(self, a: str, b: str) -> Link | None:
        self.screen([(a, b)])
        numbers = self._numbers((a, b))
        told = self.kept.get(numbers) or self.kept.put(numbers, self._told(a, b))
        if not told.is_link:
            return None
        return Link(a, b, told.closeness, lambda: self._views(a, b, told), told.seen, told.one_way)

    def _told(self, a: str, b: str) -> Told:
        """What a pair shows that is not known yet."""
        seen = self.screened.pop((a, b))
        if UNTOLD in (seen[0].shows, seen[1].shows):
            closeness, views = self._hold(a, b)
            held = (views.relative, views.back, views.r, views.lean)
            return Told(views.relative.relation not in BLIND, closeness, views=held)
        if seen[0].shows != MATRICES:
            return Told(False)
        ours, theirs = self.fingerprint(a), self.fingerprint(b)
        closeness = min(
            seen[0].closeness * comparable_share(seen[0].comparable, ours), seen[1].closeness * comparable_share(seen[1].comparable, theirs)
        )
        in_place = seen[0].in_place and seen[1].in_place
        return Told(True, closeness, seen, not in_place or may_be_one_way(ours, theirs, seen[0].parts))

    def _views(self, a: str, b: str, told: Told) -> Views:
        """What a pair of models is to each other, under the names that they have now."""
        if told.views is None:
            _, views = self._hold(a, b)
            told = self.kept.put(self._numbers((a, b)), replace(told, views=(views.relative, views.back, views.r, views.lean)))
        assert told.views is not None
        relative, back, r, lean = told.views
        return Views(under(relative, b), under(back, a), r, lean)

    def _hold(self, a: str, b: str) -> tuple[float, Views]:
        ours, theirs = self.fingerprint(a), self.fingerprint(b)
        there = hold(ours, theirs, b, self.judge)
        found = there.kin(brief=True)
        back = hold(theirs, ours, a, self.judge).kin(brief=True)
        closeness = min(
            found.closeness * comparable_share(found.comparable_parameters, ours),
            back.closeness * comparable_share(back.comparable_parameters, theirs),
        )
        r = found.closeness / found.relative.shared if found.relative.shared else 0.0
        return closeness, Views(found.relative, back.relative, min(r, 1.0), _lean(there))

    def link_many(self, pairs: Sequence[Pair]) -> Iterable[int]:
        """Look at many pairs, those of one family together: their fingerprints are read once. Tells how many were looked at so far."""
        families = networkx.utils.UnionFind()
        for pair in pairs:
            families.union(*pair)
        ordered = sorted(pairs, key=lambda pair: families[pair[0]])
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            self.screen(some)
            for pair in some:
                self.link(*pair)
            yield start + len(some)

    def links_of(self, name: str) -> list[Link]:
        """The links of one model that are known."""
        return [*self.near[name].values()]

    def links_among(self, names: Collection[str]) -> list[Link]:
        """The links between these models that are known, in order."""
        found = {id(link): link for name in names for other, link in self.near[name].items() if other in names}
        return sorted(found.values(), key=lambda link: (link.a, link.b))

    def families(self, names: Iterable[str]) -> list[list[str]]:
        """Of these models those that hang together by links among them; each family in order, and they by their first."""
        union = networkx.utils.UnionFind(names)
        for name in [*union]:
            union.union(name, *(other for other in self.near[name] if other in union.parents))
        return sorted(sorted(family) for family in union.to_sets())

    def forget(self, names: Iterable[str]) -> None:
        """Let go of the links of models that little is asked of any more. The pairs stay counted."""
        for name in names:
            for link in self.near.pop(name, {}).values():
                self.links.pop((link.a, link.b), None)

    def take_in(self, names: Iterable[str], told: Mapping[Numbers, str], looked_at: Iterable[Pair]) -> None:
        """Take over what was found elsewhere of the pairs of some models, in the place of their links here."""
        self.forget(names)
        self.kept.new.update(told)
        self.looked_at.update(looked_at)


def copies(measurer: Measurer, names: Iterable[str]) -> Mapping[str, list[str]]:
    """Models with the same weights, under the one that was registered first: its name -> all names, itself first."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name in sorted(names, key=lambda name: measurer.ids[name]):
        groups[measurer.facts(name).sameness].append(name)
    return {found[0]: found for found in groups.values()}


def _lean(held: Held) -> float:
    """Standard errors by which the query is the relative plus independent changes, rather than the reverse.

    Then the query's slope on the relative is 1 in every matrix, while the relative's on the query is smaller. 0 where both are about as far
    from 1, as for two children of a third model or for small changes.
    """
    ours, theirs = held.query.matrices.scale, held.relative.matrices.scale
    places = [p for m in held.measured for p in m.places if p.channel == "probe" and SHOWN_AS.get(p.family, p.family) in INFORMATIVE]
    sizes = [(p.cosine, float(ours[p.query_row]), float(theirs[p.relative_row])) for p in places]
    known = [(cosine, our / their) for cosine, our, their in sizes if our > 0 and their > 0]
    if len(known) < FEWEST_SLOPES:
        return 0.0
    cosine, ratio = np.array(known).T
    gaps = np.abs(cosine / ratio - 1) - np.abs(cosine * ratio - 1)
    if abs(float(gaps.mean())) < LEAST_SLOPE_GAP:
        return 0.0
    return float(gaps.mean() / max(gaps.std(ddof=1) / math.sqrt(len(gaps)), TINY))
