"""Pairs of registered models held against each other for a family tree: candidates of the index only, copies of one model once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from blake3 import blake3

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import BLIND, PARTIAL, is_descent
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS
from modelkin_registry.relations.pairs import Held, Kin, hold
from modelkin_registry.search.candidates import REVISIONS, find_candidates
from modelkin_registry.search.known import Known

CANDIDATES = 12  # models of the index that each one is held against: in a family of 40 its base was always among the nearest 5 (trees.json)
Part = tuple[str, str]
KEPT = 2048  # fingerprints in memory at once: 200 MB of large ones
WHOLE_SHARE = 0.5  # share of the smaller model's weights from which a link is one of whole models, not of parts
FEWEST_SLOPES = 8  # matrices from which slopes are compared
LEAST_SLOPE_GAP = 0.02  # mean difference of slopes below which sketches of a few dozen matrices tell nothing (noise of one: 0.09 x change)
TINY = 1e-12  # instead of no spread at all, where every slope is the same
MOVED = 2.0  # added to the weight of links in other coordinates: more than any distance


@dataclass(frozen=True)
class Link:
    """Two models with evidence. `a` is the smaller one and asks; `back` is the same seen from `b`.

    closeness  share of either model's weights that carry evidence times their correlation, the lower of both sides; what has no counterpart
               and what is not understood counts as not shared
    lean       how many standard errors speak for a = b + independent changes (positive) or for the reverse (negative)
    """

    a: str
    b: str
    relative: Relative
    back: Relative
    closeness: float
    r: float
    lean: float = 0.0

    @cached_property
    def distance(self) -> float:
        """Between 0 (the same weights) and about sqrt(2): the chord of the angle between the two."""
        return math.sqrt(max(0.0, 2.0 * (1.0 - self.closeness)))

    @cached_property
    def is_moved(self) -> bool:
        """Whether some of the evidence lies in other coordinates (gram, anchored), whose distances are on another scale."""
        return any(f.inherited and f.informative and f.channel != "probe" for c in self.relative.components for f in c.families)

    @cached_property
    def weight(self) -> float:
        """The distance; all links in other coordinates are farther than those in the same ones."""
        return self.distance + (MOVED if self.is_moved else 0.0)

    @property
    def is_descent(self) -> bool:
        return is_descent(self.relative)

    @cached_property
    def is_whole(self) -> bool:
        """Whether one whole model may come from the other, not only parts of it."""
        partial = any(side.relation in PARTIAL for side in (self.relative, self.back))
        return self.is_descent and not partial and self.relative.shared >= WHOLE_SHARE

    def other(self, name: str) -> str:
        return self.b if name == self.a else self.a

    def parts(self, name: str) -> frozenset[Part]:
        """The (component, informative family) pairs of one model that carry evidence of the other."""
        view = self.view(name)
        return frozenset((c.query, f.family) for c in view.components for f in c.families if f.informative and f.inherited)

    def view(self, name: str) -> Relative:
        """The other model as the relative of this one."""
        return self.relative if name == self.a else self.back


class Measurer:
    """Holds registered models against each other, each pair once, with a bounded number of fingerprints in memory."""

    def __init__(self, known: Known, judge: Judge) -> None:
        self.known = known
        store = known.store
        self.ids = {name: number for number, name in store.names_of(store.numbers(current=True)).items()}
        models = store.models_of(self.ids.values())
        names = {models[number]: name for name, number in self.ids.items()}
        self.names = {number: names[model] for number, model in store.models_of(store.numbers()).items()}  # older revisions too
        self.fingerprint = lru_cache(maxsize=KEPT)(self._load)
        self.judge = judge
        self.links: dict[tuple[str, str], Link | None] = {}
        self.held = 0

    def _load(self, name: str) -> Fingerprint:
        return self.known.numbered(self.ids[name])

    def candidates(self, name: str) -> list[str]:
        """The models that the index holds nearest, best first."""
        found = find_candidates(self.known.index, self.fingerprint(name), limit=REVISIONS * (CANDIDATES + 1), nearest=0)
        nearest = dict.fromkeys(self.names[number] for number in found if number in self.names)
        return [other for other in nearest if other != name][:CANDIDATES]

    def link(self, one: str, other: str) -> Link | None:
        """The evidence between two models, None where there is none."""
        pair = (one, other) if self._rank(one) <= self._rank(other) else (other, one)
        if pair not in self.links:
            self.links[pair] = self._measured(*pair)
        return self.links[pair]

    def _rank(self, name: str) -> tuple[int, str]:
        return self.fingerprint(name).about.parameters, name

    def _measured(self, a: str, b: str) -> Link | None:
        self.held += 1
        ours, theirs = self.fingerprint(a), self.fingerprint(b)
        there = hold(ours, theirs, b, self.judge)
        found = there.kin()
        if found.relative.relation in BLIND:
            return None
        back = hold(theirs, ours, a, self.judge).kin()
        closeness = min(found.closeness * _comparable(found, ours), back.closeness * _comparable(back, theirs))
        r = found.closeness / found.relative.shared if found.relative.shared else 0.0
        return Link(a, b, found.relative, back.relative, closeness, min(r, 1.0), _lean(there))

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


def _comparable(kin: Kin, model: Fingerprint) -> float:
    """The share of a model's informative weights that was compared; weights that no rule knows were not."""
    table = model.matrices
    own = sum(int(n) for n, p in zip(table.parameters, table.places, strict=True) if SHOWN_AS.get(p.family, p.family) in INFORMATIVE)
    return min(1.0, kin.comparable_parameters / own) * model.about.coverage if own else 0.0


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
