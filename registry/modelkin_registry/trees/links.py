"""Pairs of registered models for a family tree: what many pairs at once show, and in full only where the tree rests on it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from blake3 import blake3

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import BLIND, PARTIAL, is_descent
from modelkin_registry.batches.layouts import Layout, is_informative, layout_of
from modelkin_registry.batches.pairs import MATRICES, UNTOLD, Seen, screened
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS
from modelkin_registry.relations.pairs import Held, hold
from modelkin_registry.search.candidates import REVISIONS, find_candidates_of_many
from modelkin_registry.search.known import Known
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.kept import KeptPairs, Told, under
from modelkin_registry.trees.one_way import may_be_one_way

CANDIDATES = 12  # models of the index that each one is held against: in a family of 40 its base was always among the nearest 5 (trees.json)
Part = tuple[str, str]
Pair = tuple[str, str]
KEPT = 2048  # fingerprints in memory at once: 200 MB of large ones
AT_ONCE = 256  # models whose candidates are asked for together
WHOLE_SHARE = 0.5  # share of the smaller model's weights from which a link is one of whole models, not of parts
FEWEST_SLOPES = 8  # matrices from which slopes are compared
LEAST_SLOPE_GAP = 0.02  # mean difference of slopes below which sketches of a few dozen matrices tell nothing (noise of one: 0.09 x change)
TINY = 1e-12  # instead of no spread at all, where every slope is the same
MOVED = 2.0  # added to the weight of links in other coordinates: more than any distance


@dataclass(frozen=True, eq=False)
class Views:
    """Two models held against each other: `relative` is b as seen from a, `back` a as seen from b.

    r       mean correlation of what they share
    lean    how many standard errors speak for a = b + independent changes (positive) or for the reverse (negative)
    """

    relative: Relative
    back: Relative
    r: float
    lean: float = 0.0


@dataclass(frozen=True, eq=False)
class Link:
    """Two models with evidence. `a` is the smaller one and asks.

    closeness  share of either model's weights that carry evidence times their correlation, the lower of both sides; what has no counterpart
               and what is not understood counts as not shared
    hold       holds the two against each other: what they are to each other is worked out where it is asked for
    seen       what a product over many pairs showed of b from a and of a from b; None where they were held at once
    one_way    whether one of the two may be a copy by a step that does not go back: where not, they need not be held to know it
    """

    a: str
    b: str
    closeness: float
    hold: Callable[[], Views]
    seen: tuple[Seen, Seen] | None = None
    one_way: bool = True

    @cached_property
    def views(self) -> Views:
        return self.hold()

    @property
    def relative(self) -> Relative:
        return self.views.relative

    @property
    def back(self) -> Relative:
        return self.views.back

    @property
    def r(self) -> float:
        return self.views.r

    @property
    def lean(self) -> float:
        return self.views.lean

    @property
    def correlation(self) -> float:
        """Mean correlation of what they share, be it by descent or from one start."""
        return self.seen[0].r if self.seen is not None else self.r

    @cached_property
    def distance(self) -> float:
        """Between 0 (the same weights) and about sqrt(2): the chord of the angle between the two."""
        return math.sqrt(max(0.0, 2.0 * (1.0 - self.closeness)))

    @cached_property
    def is_moved(self) -> bool:
        """Whether some of the evidence lies in other coordinates (gram, anchored), whose distances are on another scale."""
        if self.seen is not None:
            return False
        return any(f.inherited and f.informative and f.channel != "probe" for c in self.relative.components for f in c.families)

    @cached_property
    def weight(self) -> float:
        """The distance; all links in other coordinates are farther than those in the same ones."""
        return self.distance + (MOVED if self.is_moved else 0.0)

    @property
    def is_descent(self) -> bool:
        return is_descent(self.relative)

    @property
    def may_be_whole(self) -> bool:
        """Whether `is_whole` may be true, as far as it is known without holding the two against each other."""
        return self.seen[0].shared >= WHOLE_SHARE if self.seen is not None else self.is_whole

    @cached_property
    def is_whole(self) -> bool:
        """Whether one whole model may come from the other, not only parts of it."""
        if self.seen is not None and not self.may_be_whole:
            return False
        partial = any(side.relation in PARTIAL for side in (self.relative, self.back))
        return self.is_descent and not partial and self.relative.shared >= WHOLE_SHARE

    def other(self, name: str) -> str:
        return self.b if name == self.a else self.a

    def may_parts(self, name: str) -> frozenset[Part]:
        """What `parts` may hold, as far as it is known without holding the two against each other."""
        return self.seen[0 if name == self.a else 1].parts if self.seen is not None else self.parts(name)

    def parts(self, name: str) -> frozenset[Part]:
        """The (component, informative family) pairs of one model that carry evidence of the other."""
        view = self.view(name)
        return frozenset((c.query, f.family) for c in view.components for f in c.families if f.informative and f.inherited)

    def view(self, name: str) -> Relative:
        """The other model as the relative of this one."""
        return self.relative if name == self.a else self.back


class Measurer:
    """Holds registered models against each other, each pair once, with a bounded number of fingerprints in memory."""

    def __init__(self, known: Known[Store], judge: Judge, *, every: bool) -> None:
        """`every`: all models are looked up at once; else those alone that are come upon."""
        self.known = known
        self.ids: dict[str, int] = {}
        self.names: dict[int, str | None] = {}  # older revisions too; None of a model that has no place in a tree
        self.fingerprint = lru_cache(maxsize=KEPT)(self._load)
        self.judge = judge
        self.links: dict[Pair, Link | None] = {}
        self.screened: dict[Pair, tuple[Seen, Seen]] = {}
        self.sizes: dict[str, int] = {}
        self.nearest: dict[str, list[str]] = {}
        self.prints: dict[str, int] = {}  # the numbers of the fingerprints that stand for models
        self.kept = KeptPairs(known.store, judge)
        self.held = 0
        if every:
            self.look_up(known.store.numbers())

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
        return self.known.numbered(self.ids[name])

    def candidates(self, name: str) -> list[str]:
        """The models that the index holds nearest, best first."""
        self.find([name])
        return self.nearest[name]

    def find(self, names: Sequence[str]) -> None:
        """Ask the index for the candidates of several models at once, of those that were not asked for before."""
        names = [name for name in names if name not in self.nearest]
        if not names:
            return
        found = find_candidates_of_many(
            self.known.index, [self.fingerprint(name) for name in names], limit=REVISIONS * (CANDIDATES + 1), nearest=0
        )
        self.look_up(number for numbers in found for number in numbers)
        for name, numbers in zip(names, found, strict=True):
            nearest = dict.fromkeys(called for number in numbers if (called := self.names.get(number)) is not None)
            self.nearest[name] = [other for other in nearest if other != name][:CANDIDATES]

    def screen(self, pairs: Iterable[Pair]) -> None:
        """Look at many pairs at once, for the links that are asked for next."""
        wanted = [pair for pair in dict.fromkeys(self._ordered(*pair) for pair in pairs) if pair not in self.links]
        self.kept.look_up({self.prints[a] for a, _ in wanted})
        wanted = [pair for pair in wanted if pair not in self.screened and self._numbers(pair) not in self.kept]
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            sides = [(self.fingerprint(a), self.fingerprint(b)) for a, b in some]
            ahead, back = screened(sides, self.judge), screened([(b, a) for a, b in sides], self.judge)
            self.screened |= dict(zip(some, zip(ahead, back, strict=True), strict=True))

    def link(self, one: str, other: str) -> Link | None:
        """The evidence between two models, None where there is none."""
        pair = self._ordered(one, other)
        if pair not in self.links:
            self.links[pair] = self._measured(*pair)
        return self.links[pair]

    def _ordered(self, one: str, other: str) -> Pair:
        return (one, other) if (self._size(one), one) <= (self._size(other), other) else (other, one)

    def _size(self, name: str) -> int:
        if name not in self.sizes:
            self.sizes[name] = self.fingerprint(name).about.parameters
        return self.sizes[name]

    def _numbers(self, pair: Pair) -> tuple[int, int]:
        return self.prints[pair[0]], self.prints[pair[1]]

    def _measured(self, a: str, b: str) -> Link | None:
        self.held += 1
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
            seen[0].closeness * _comparable(seen[0].comparable, ours), seen[1].closeness * _comparable(seen[1].comparable, theirs)
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
        found = there.kin()
        back = hold(theirs, ours, a, self.judge).kin()
        closeness = min(
            found.closeness * _comparable(found.comparable_parameters, ours),
            back.closeness * _comparable(back.comparable_parameters, theirs),
        )
        r = found.closeness / found.relative.shared if found.relative.shared else 0.0
        return closeness, Views(found.relative, back.relative, min(r, 1.0), _lean(there))

    def existing(self) -> list[Link]:
        return [link for link in self.links.values() if link is not None]


def copies(measurer: Measurer, names: Iterable[str]) -> dict[str, list[str]]:
    """Models with the same weights, under the one that was registered first: its name -> all names, itself first.

    The same means equal places, sketches and lengths: a copy in another file layout, or cast without loss, is one.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=lambda name: measurer.ids[name]):
        groups[_sameness(measurer.fingerprint(name))].append(name)
    return {found[0]: found for found in groups.values()}


def _sameness(fingerprint: Fingerprint) -> str:
    hasher = blake3(repr(fingerprint.matrices.places).encode())
    for column in (fingerprint.matrices.rows, fingerprint.matrices.columns, fingerprint.matrices.probe, fingerprint.matrices.scale):
        hasher.update(np.ascontiguousarray(column).tobytes())
    hasher.update(fingerprint.vectors.digest.tobytes())
    return hasher.hexdigest()


def own_parts(layout: Layout) -> frozenset[Part]:
    """All (component, informative family) pairs of models of this layout."""
    known = layout.example.matrices.worked_out
    if own_parts not in known:
        families = ((place.component, SHOWN_AS.get(place.family, place.family)) for place in layout.places)
        known[own_parts] = frozenset(part for part in families if part[1] in INFORMATIVE)
    return known[own_parts]  # type: ignore[no-any-return]


def _comparable(compared: int, model: Fingerprint) -> float:
    """The share of a model's informative weights that was compared; weights that no rule knows were not."""
    layout = layout_of(model)
    known = layout.example.matrices.worked_out
    if _comparable not in known:
        informative = [is_informative(place.family) for place in layout.places]
        known[_comparable] = int(layout.parameters[informative].sum())
    own = known[_comparable]
    return min(1.0, compared / own) * model.about.coverage if own else 0.0


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
