"""Family trees: the registered models as a forest of evidence, with directions that are hints, and claims beside what weights show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import combinations

import networkx

from modelkin_indexer.results.beside import Claim
from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge, TreeModel
from modelkin_registry.batches.layouts import layout_of
from modelkin_registry.claims.declared import lineage_claims, texts_in, verdict_on
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.merging.decomposition import Decomposition
from modelkin_registry.search.known import Known
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.directions import Beside, Hint, hints, settled
from modelkin_registry.trees.forests import ROUNDS, Kinship, Oriented, joining, oriented, spanning, standing, untried
from modelkin_registry.trees.hubs import FEWEST, MOST, HubTest, examined
from modelkin_registry.trees.kept import KeptPairs
from modelkin_registry.trees.links import AT_ONCE, Link, Measurer, Part, copies, own_parts
from modelkin_registry.trees.parentage import (
    Parts,
    comes_whole,
    composite_hints,
    composites,
    may_come_whole,
    merges_among,
    part_links,
)

DEPTH = 2  # steps from the model asked about: its parent, its siblings and its children's children
MANY = 1024  # models from which a tree takes so long that its progress is told
MOST_AROUND = 60  # models looked at around one: a popular base has thousands of children, and nobody reads so large a picture
FEW = 1024  # models of which what is said is read one by one
MERGED = "its weights are a mix of those of its parents"
SAID = {
    "consistent": "weights are consistent with it",
    "not registered": "which is not registered",
    "not comparable": "which cannot be compared",
}
HINTS_ONLY = "Directions are hints: weights carry no dates, and a parent and its child swapped look much alike."


def family_tree(
    known: Known[Store], judge: Judge, around: str | None = None, depth: int = DEPTH, say: Callable[[str], None] = lambda words: None
) -> tuple[TreeAnswer, KeptPairs]:
    """The forest of the whole registry, or the models at most `depth` steps from one; and the pairs that it rests on, to be kept.

    Raises UnknownModel, FingerprintError.

    `say` is told how far the work has come, from MANY models on.
    """
    store, measurer = known.store, Measurer(known, judge, every=around is None)
    if around is None:
        names, left_out = sorted(measurer.ids), 0
        tell = say if len(names) >= MANY else lambda words: None
        for start in range(0, len(names), AT_ONCE):
            measurer.find(names[start : start + AT_ONCE])
            tell(f"Nearest models looked up of {min(start + AT_ONCE, len(names)):,} of {len(names):,}.")
    else:
        known.named(around)  # one of an older spec has no place in a tree, and says so
        measurer.look_up([store.get(around).revision])
        names, left_out = _neighbourhood(measurer, store.get(around).model, depth)
        measurer.find(names)
    groups = copies(measurer, names)
    head = {name: first for first, same in groups.items() for name in same}
    forest = _Forest(measurer, groups, _beside(measurer, groups), say)
    centre = head[store.get(around).model] if around is not None else None
    return forest.answer(around, centre, left_out), measurer.kept


def _beside(measurer: Measurer, groups: Mapping[str, Sequence[str]]) -> Beside:
    """What is known of each group of copies as of one model."""
    store, head = measurer.known.store, {name: first for first, same in groups.items() for name in same}
    claims, added = _said(store, measurer, head)
    of_groups = {first: [claim for name in same for claim in claims.get(name, ())] for first, same in groups.items()}
    texts = texts_in(claim for said in of_groups.values() for claim in said)
    known = [{}, {}] if texts == [] else store.claims.aliases(texts or ())
    aliases = [{name: head.get(now, now) for name, now in names.items()} for names in known]
    return Beside(of_groups, added, aliases)


def _said(store: Store, measurer: Measurer, names: Collection[str]) -> tuple[dict[str, list[Claim]], dict[str, str]]:
    """What is said of these models now, and when they came."""
    if len(names) > FEW:
        return store.claims.current(), {model.model: model.added for model in store.listed()}
    models = store.models_of(measurer.ids[name] for name in names)
    claims = {
        name: [
            Claim(one["kind"], one["value"], one["source"]) for one in store.claims.of_model(models[measurer.ids[name]]) if one["current"]
        ]
        for name in names
    }
    return claims, {line.model: line.added for line in store.lines([measurer.ids[name] for name in names])}


def _neighbourhood(measurer: Measurer, centre: str, depth: int) -> tuple[list[str], int]:
    """The models within so many steps of evidence, the nearest first, and how many more there were."""
    found, edge, left_out = {centre: 0.0}, [centre], 0
    for _ in range(depth):
        measurer.find(edge)
        measurer.screen((name, other) for name in edge for other in measurer.candidates(name))
        links = [(link.distance, link.other(name)) for name in edge for link in _links_of(measurer, name)]
        nearest = {other: distance for distance, other in sorted(links, reverse=True) if other not in found}
        ordered = sorted(nearest, key=lambda other: (nearest[other], other))
        room = max(MOST_AROUND - len(found), 0)
        left_out += len(ordered[room:])
        edge = ordered[:room]
        found |= {other: nearest[other] for other in edge}
    return sorted(found), left_out


def _links_of(measurer: Measurer, name: str) -> list[Link]:
    return [link for other in measurer.candidates(name) if (link := measurer.link(name, other)) is not None]


class _Forest:
    """The work between measured links and the answer; every model stands for its copies."""

    def __init__(self, measurer: Measurer, groups: Mapping[str, Sequence[str]], beside: Beside, say: Callable[[str], None]) -> None:
        self.measurer, self.groups, self.beside = measurer, groups, beside
        self.tell = say if len(groups) >= MANY else lambda words: None
        self.head = {name: first for first, same in groups.items() for name in same}
        self.merges: dict[str, Decomposition] = {}
        self.mixed: set[str] = set()
        self.tree: list[Link] = []
        self.hubs: dict[str, HubTest | None] = {}
        self._measure()
        self._grow()

    def _measure(self) -> None:
        """Hold each model against its candidates and the models that its folder names."""
        wanted = []
        for first in self.groups:
            found = [self.head.get(other) for other in self.measurer.candidates(first)]
            found += [self.head.get(model or "") for _, model in lineage_claims(self.beside.claims[first], self.beside.aliases)]
            wanted += [(first, other) for other in dict.fromkeys(found) if other is not None and other != first]
        self._link(wanted)

    def _link(self, pairs: Sequence[tuple[str, str]]) -> list[Link | None]:
        """The links of many pairs, those of one family together: their fingerprints are read once."""
        families = networkx.utils.UnionFind()
        for pair in pairs:
            families.union(*pair)
        ordered = sorted(pairs, key=lambda pair: families[pair[0]])
        found: dict[tuple[str, str], Link | None] = {}
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            self.measurer.screen(some)
            found |= {pair: self.measurer.link(*pair) for pair in some}
            self.tell(f"{len(found):,} of {len(pairs):,} pairs of models looked at.")
        return [found[pair] for pair in pairs]

    def _grow(self) -> None:
        """The tree; then again with each model measured against the middle of its family too."""
        for _ in range(ROUNDS):
            self.links = self._links()
            self.kin = Kinship(self.links, self.measurer.link)
            plain = _by_model(self.links)
            whole = {name: [link for link in around if link.may_be_whole] for name, around in plain.items()}
            self.tell(f"{len(self.links):,} pairs are related. Merges are sought among them.")
            self.merges = {**self.merges, **merges_among(whole, self.measurer, self.kin)}
            pure = {name: [one for one in around if one.other(name) not in self.merges] for name, around in plain.items()}
            able = {name: around for name, around in pure.items() if name not in self.merges}
            self.mixed = self._composites({name: around for name, around in able.items() if not self._may_come_whole(name, around)})
            plain_links = [link for link in self.links if link.may_be_whole and self._is_plain(link)]
            if not self._link(untried(spanning(plain_links, self.kin), self.kin)):
                break
        self.tell("The tree is drawn.")
        self._span(able)

    def _may_come_whole(self, name: str, around: Iterable[Link]) -> bool:
        return bool(may_come_whole(name, around, self._own_parts(name)))

    def _span(self, able: Mapping[str, Sequence[Link]]) -> None:
        """The tree beside composites. Whether a model came whole from another, its place in the tree tells first."""
        waiting = {name: around for name, around in able.items() if self._may_come_whole(name, around)}
        while True:
            self.tree = standing(filter(self._is_plain, self.links), self.kin)
            placed = _by_model(self.tree)
            parted = {
                name: around
                for name, around in waiting.items()
                if not any(comes_whole(name, links, self._own_parts(name)) for links in (placed.get(name, ()), around))
            }
            if not self._composites(parted) - self.mixed:
                return
            self.mixed |= self._composites(parted)

    def _composites(self, links: Mapping[str, Sequence[Link]]) -> set[str]:
        return composites(links, self._own_parts, self._linked, self.kin)

    def _links(self) -> list[Link]:
        found = [link for link in self.measurer.existing() if {link.a, link.b} <= self.groups.keys()]
        return sorted(found, key=lambda link: (link.a, link.b))

    def answer(self, around: str | None, centre: str | None, left_out: int) -> TreeAnswer:
        """All edges, and every model with what is said of it."""
        edges = self._edges()
        if centre is not None:
            edges = _reached(edges, centre)
        shown = {name for edge in edges for name in (edge.parent, edge.child)} | ({centre} if centre else set())
        shown |= {name for name, same in self.groups.items() if len(same) > 1 and centre is None}
        models = tuple(self._model(name, edges) for name in self.groups if name in shown)
        alone = tuple(name for name in self.groups if name not in shown) if centre is None else ()
        return TreeAnswer(around, models, tuple(edges), alone, self.measurer.held, left_out, (HINTS_ONLY,), self._ancestors(edges))

    def _edges(self) -> list[TreeEdge]:
        tree = oriented(self.tree, {(link.a, link.b): self._hints(link) for link in self.tree})
        around = _by_model(self.tree)
        self.hubs = {name: self._hub(name, links) for name, links in around.items() if len(links) >= FEWEST}
        edges = [self._descent_edge(o) for o in tree]
        edges += self._merge_edges() + self._part_edges()
        plain = [link for link in self.links if not {link.a, link.b} & (self.merges.keys() | self.mixed)]
        start = joining(self.tree, plain, _one_start)
        return edges + [_tree_edge(link.b, link.a, link, "shared start", (), False) for link in start]

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

    def _ancestors(self, edges: Sequence[TreeEdge]) -> tuple[tuple[str, ...], ...]:
        """Groups without any direction whose every middle went a way of its own: their common ancestor is not registered."""
        loose: dict[str, set[str]] = {}
        for edge in edges:
            if edge.kind == "descent" and edge.direction == "unknown":
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

    def _own_parts(self, name: str) -> frozenset[Part]:
        return own_parts(layout_of(self.measurer.fingerprint(name)))

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

    def _model(self, name: str, edges: Sequence[TreeEdge]) -> TreeModel:
        about = self.measurer.fingerprint(name).about
        claims = tuple(self._claims(name))
        parents = [edge.parent for edge in edges if edge.child == name and edge.kind != "shared start"]
        copies_of = tuple(self.groups[name][1:])
        return TreeModel(name, copies_of, about.parameters, about.components, self.beside.added[name], summary(claims, parents), claims)

    def _claims(self, name: str) -> Iterable[WeighedClaim]:
        for claim, model in lineage_claims(self.beside.claims[name], self.beside.aliases):
            if model == name or (model is None and claim.kind == "name_or_path"):
                continue
            link = self.measurer.link(name, model) if model is not None and model in self.groups else None
            relation = None if model is None else link.view(name).relation if link else "unrelated"
            yield WeighedClaim(claim.kind, claim.value, claim.source, model, relation, verdict_on(model, relation))


def summary(claims: Sequence[WeighedClaim], parents: Sequence[str]) -> str:
    """`claims X, weights show Y`; "" where nothing is said of a model without parents."""
    shown = ", ".join(parents) or "nothing"
    if not claims:
        return "claims none" if parents else ""
    parts = []
    for claim in claims:
        words = f"weights show {shown}" if claim.verdict == "nothing" else SAID[claim.verdict]
        if claim.verdict == "consistent" and parents and claim.model not in parents:
            words += f", {shown} is nearer"
        parts.append(f"claims {claim.value}, {words}")
    return "; ".join(dict.fromkeys(parts))


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


def _reached(edges: Sequence[TreeEdge], centre: str) -> list[TreeEdge]:
    """The edges that hang together with a model."""
    found, grown = {centre}, True
    while grown:
        more = {name for edge in edges if {edge.parent, edge.child} & found for name in (edge.parent, edge.child)}
        grown, found = not more <= found, found | more
    return [edge for edge in edges if edge.parent in found]


def _one_start(link: Link) -> bool:
    """Whether the two hold one start in general, not a few lone matrices that any of several causes can give."""
    return link.relative.relation == "shared initialisation" and not link.relative.lone
