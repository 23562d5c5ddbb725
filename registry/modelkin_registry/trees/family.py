"""One family of a tree: from the links of models that hang together to its edges, with directions that are hints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, combinations

from msgspec import Struct

from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.tree import TreeEdge
from modelkin_registry.merging.decomposition import Decomposition
from modelkin_registry.trees.directions import Beside, Hint, hints, settled
from modelkin_registry.trees.forests import ROUNDS, Kinship, Oriented, joining, oriented, spanning, standing, untried
from modelkin_registry.trees.hubs import FEWEST, MOST, HubTest, examined
from modelkin_registry.trees.pairs.links import Link
from modelkin_registry.trees.pairs.measurer import Measurer
from modelkin_registry.trees.parentage import (
    Parts,
    comes_whole,
    composite_hints,
    composites,
    may_come_whole,
    merges_among,
    part_links,
)

MERGED = "its weights are a mix of those of its parents"


class Drawn(Struct, frozen=True):
    """The edges of a family by their kinds, those of descent tree by tree, and its groups whose common ancestor is not registered."""

    trees: tuple[tuple[TreeEdge, ...], ...] = ()
    merges: tuple[TreeEdge, ...] = ()
    parts: tuple[TreeEdge, ...] = ()
    starts: tuple[TreeEdge, ...] = ()
    without_ancestor: tuple[tuple[str, ...], ...] = ()

    @property
    def edges(self) -> tuple[TreeEdge, ...]:
        return (*chain.from_iterable(self.trees), *self.merges, *self.parts, *self.starts)


class Family:
    """The work between measured links and the edges of models that hang together; every model stands for its copies."""

    def __init__(self, measurer: Measurer, names: Collection[str], beside: Beside) -> None:
        self.measurer, self.names, self.beside = measurer, frozenset(names), beside
        self.merges: dict[str, Decomposition] = {}
        self.mixed: set[str] = set()
        self.tree: list[Link] = []
        self.hubs: dict[str, HubTest | None] = {}
        self._grow()

    def _grow(self) -> None:
        """The tree; then again with each model measured against the middle of its family too."""
        for _ in range(ROUNDS):
            self.links = self.measurer.links_among(self.names)
            self.kin = Kinship(self.links, self.measurer.link)
            plain = _by_model(self.links)
            whole = {name: [link for link in around if link.may_be_whole] for name, around in plain.items()}
            self.merges = {**self.merges, **merges_among(whole, self.measurer, self.kin)}
            pure = {name: [one for one in around if one.other(name) not in self.merges] for name, around in plain.items()}
            able = {name: around for name, around in pure.items() if name not in self.merges}
            self.mixed = self._composites({name: around for name, around in able.items() if not self._may_come_whole(name, around)})
            plain_links = [link for link in self.links if link.may_be_whole and self._is_plain(link)]
            middle = untried(spanning(plain_links, self.kin), self.kin)
            for _ in self.measurer.link_many(middle):
                pass
            if not middle:
                break
        self._span(able)

    def _may_come_whole(self, name: str, around: Iterable[Link]) -> bool:
        return bool(may_come_whole(name, around, self.measurer.facts(name).parts))

    def _span(self, able: Mapping[str, Sequence[Link]]) -> None:
        """The tree beside composites. Whether a model came whole from another, its place in the tree tells first."""
        waiting = {name: around for name, around in able.items() if self._may_come_whole(name, around)}
        while True:
            self.tree = standing(filter(self._is_plain, self.links), self.kin)
            placed = _by_model(self.tree)
            parted = {
                name: around
                for name, around in waiting.items()
                if not any(comes_whole(name, links, self.measurer.facts(name).parts) for links in (placed.get(name, ()), around))
            }
            if not self._composites(parted) - self.mixed:
                return
            self.mixed |= self._composites(parted)

    def _composites(self, links: Mapping[str, Sequence[Link]]) -> set[str]:
        return composites(links, lambda name: self.measurer.facts(name).parts, self._linked, self.kin)

    def drawn(self) -> Drawn:
        """All edges of the family."""
        trees = oriented(self.tree, {(link.a, link.b): self._hints(link) for link in self.tree})
        around = _by_model(self.tree)
        self.hubs = {name: self._hub(name, links) for name, links in around.items() if len(links) >= FEWEST}
        plain = [link for link in self.links if not {link.a, link.b} & (self.merges.keys() | self.mixed)]
        start = joining(self.tree, plain, _one_start)
        descent = tuple(tuple(map(self._descent_edge, tree)) for tree in trees)
        return Drawn(
            trees=descent,
            merges=tuple(self._merge_edges()),
            parts=tuple(self._part_edges()),
            starts=tuple(_tree_edge(link.b, link.a, link, "shared start", (), False) for link in start),
            without_ancestor=self._ancestors(chain.from_iterable(descent)),
        )

    def _hub(self, name: str, links: Sequence[Link]) -> HubTest | None:
        """Whether a model in the middle is the base of its neighbours, by whole models in the same coordinates."""
        able = {link.other(name): link.correlation for link in links if link.is_whole and not link.is_moved}
        self.measurer.screen(combinations(sorted(able, key=lambda other: (-able[other], other))[:MOST], 2))
        return examined(name, list(able), lambda one, other: link.correlation if (link := self.measurer.link(one, other)) else 0.0)

    def _descent_edge(self, o: Oriented) -> TreeEdge:
        """An edge of the tree. A direction needs more than signs that two children of a third model give as well."""
        hub = self.hubs.get(o.parent)
        sure = bool(o.margin) and (settled(o.link, o.parent, o.child, self.beside) or (hub is not None and hub.is_base))
        return _tree_edge(o.parent, o.child, o.link, "descent", o.reasons if sure else (), sure)

    def _ancestors(self, edges: Iterable[TreeEdge]) -> tuple[tuple[str, ...], ...]:
        """Groups without any direction whose every middle went a way of its own: their common ancestor is not registered."""
        loose: dict[str, set[str]] = {}
        for edge in edges:
            if edge.direction == "unknown":
                both = loose.get(edge.parent, {edge.parent}) | loose.get(edge.child, {edge.child})
                loose |= dict.fromkeys(both, both)
        groups = {tuple(sorted(group)) for group in loose.values()}
        return tuple(sorted(group for group in groups if any((hub := self.hubs.get(name)) and hub.is_sibling for name in group)))

    def _is_plain(self, link: Link) -> bool:
        """Whether a link may be in the tree: merges and composites hang on their parents, and only what came after hangs on them."""
        several = self.merges.keys() | self.mixed
        for name in {link.a, link.b} & several:
            other = link.other(name)
            parents = self.merges[name].names if name in self.merges else self._donors(name)
            central = [third for third in self.kin.around[name] if third not in several and self.kin.is_nearer_to_all(third, name)]
            if other in several or other in parents or not self.kin.lies_between(name, other, {*parents, *central}):
                return False
        return True

    def _donors(self, name: str) -> list[str]:
        around = [link for link in self.links if name in (link.a, link.b) and link.other(name) not in self.merges]
        return [parts.link.other(name) for parts in part_links(name, frozenset(), around, self.kin)]

    def _linked(self, one: str, other: str) -> bool:
        return self.measurer.link(one, other) is not None

    def _merge_edges(self) -> list[TreeEdge]:
        """Each merge with all of its parents."""
        found = []
        for name, blend in self.merges.items():
            for parent, weight in zip(blend.names, blend.weights, strict=True):
                link = self.measurer.link(name, parent)
                if link is not None:
                    found.append(_tree_edge(parent, name, link, "merge", (MERGED,), True, round(weight, 4)))
        return found

    def _hints(self, link: Link) -> list[Hint]:
        return hints(link, {name: self.measurer.fingerprint(name) for name in (link.a, link.b)}, self.beside)

    def _part_edges(self) -> list[TreeEdge]:
        """The nearest links that explain what a model's place in the tree does not."""
        placed = set(map(id, self.tree))
        tree, rest = _by_model(self.tree), _by_model(link for link in self.links if id(link) not in placed)
        found: dict[tuple[str, str], Parts] = {}
        signs: dict[tuple[str, str], list[Hint]] = {}
        for name in sorted(rest.keys() - self.merges.keys()):
            covered = frozenset(part for link in tree.get(name, ()) for part in link.parts(name))
            able = [link for link in rest[name] if link.other(name) not in self.merges and link.other(name) not in self.mixed]
            parts = part_links(name, covered, able, self.kin, lambda link: link.is_descent)
            donors = [p.link.other(name) for p in parts] + [link.other(name) for link in tree.get(name, ())]
            for hint in composite_hints(name, donors, self._linked) if parts else ():
                signs.setdefault((hint.parent, hint.child), []).append(hint)
            found |= {(p.link.a, p.link.b): p for p in parts}
        return [self._part_edge(parts, signs) for _, parts in sorted(found.items())]

    def _part_edge(self, parts: Parts, composite: Mapping[tuple[str, str], Sequence[Hint]]) -> TreeEdge:
        link = parts.link
        said = [*self._hints(link), *composite.get((link.a, link.b), ()), *composite.get((link.b, link.a), ())]
        weights = {name: sum(hint.weight for hint in said if hint.parent == name) for name in (link.a, link.b)}
        parent, child = sorted(weights, key=lambda name: (-weights[name], name))
        sure = weights[parent] > weights[child]
        reasons = tuple(dict.fromkeys(hint.reason for hint in said if hint.parent == parent)) if sure else ()
        return _tree_edge(parent, child, link, "part", reasons, sure)


def _by_model(links: Iterable[Link]) -> dict[str, list[Link]]:
    found: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        found[link.a].append(link)
        found[link.b].append(link)
    return found


def _tree_edge(
    parent: str, child: str, link: Link, kind: str, reasons: tuple[str, ...], sure: bool, weight: float | None = None
) -> TreeEdge:
    view: Relative = link.view(child)
    return TreeEdge(
        parent=parent,
        child=child,
        kind=kind,
        relation="merged" if kind == "merge" else view.relation,
        also=view.also,
        r=round(link.r, 4) if link.is_descent else None,
        p_value=view.p_value,
        shared=view.shared,
        distance=round(link.distance, 5),
        families=tuple(sorted(f"{component}/{family}" for component, family in link.parts(child))),
        direction="hint" if sure else "unknown",
        reasons=reasons,
        weight=weight,
    )


def _one_start(link: Link) -> bool:
    """Whether the two hold one start in general, not a few lone matrices that any of several causes can give."""
    return link.relative.relation == "shared initialisation" and not link.relative.lone
