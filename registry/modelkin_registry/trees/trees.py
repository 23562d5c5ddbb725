"""Family trees: the registered models as a forest of evidence, with directions that are hints, and claims beside what weights show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge, TreeModel
from modelkin_registry.claims.declared import lineage_claims, verdict_on
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.search.known import Known
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.family import Drawn, Family
from modelkin_registry.trees.nearest import AT_ONCE, CANDIDATES, Nearest
from modelkin_registry.trees.pairs.kept import KeptPairs
from modelkin_registry.trees.pairs.measurer import Measurer, copies
from modelkin_registry.trees.processes import drawn_by_many, processes_for
from modelkin_registry.trees.said import beside, summary

DEPTH = 2  # steps from the model asked about: its parent, its siblings and its children's children
MANY = 1024  # models from which a tree takes so long that its progress is told
MOST_AROUND = 60  # models looked at around one: a popular base has thousands of children, and nobody reads so large a picture
FEW = CANDIDATES + 1  # models of which each is held against each: a model and its nearest, of which the index need not be asked again
HINTS_ONLY = "Directions are hints: weights carry no dates, and a parent and its child swapped look much alike."
Say = Callable[[str], None]


def family_tree(
    known: Known[Store], judge: Judge, around: str | None = None, depth: int = DEPTH, say: Say = lambda words: None
) -> tuple[TreeAnswer, KeptPairs]:
    """The forest of the whole registry, or the models at most `depth` steps from one; and the pairs that it rests on, to be kept.

    Raises UnknownModel, FingerprintError.

    `say` is told how far the work has come, from MANY models on.
    """
    measurer = Measurer(known, judge)
    nearest = Nearest(measurer)
    if around is None:
        measurer.look_up(known.store.numbers())
        tell: Say = say if len(measurer.ids) >= MANY else lambda words: None
        names = sorted(measurer.ids)
        for start in range(0, len(names), AT_ONCE):
            nearest.find(names[start : start + AT_ONCE])
            tell(f"Nearest models looked up of {min(start + AT_ONCE, len(names)):,} of {len(names):,}.")
        work = _Work(measurer, names, tell)
        work.link_nearest(nearest)
        return work.whole(), measurer.kept
    known.named(around)  # one of an older spec has no place in a tree, and says so
    asked = known.store.get(around)
    measurer.look_up([asked.revision])
    names, left_out = _neighbourhood(measurer, nearest, asked.model, depth)
    work = _Work(measurer, names, lambda words: None)
    if len(names) <= FEW:
        work.link_all()
    else:
        nearest.find(names)
        work.link_nearest(nearest)
    return work.around(around, asked.model, left_out), measurer.kept


def _neighbourhood(measurer: Measurer, nearest: Nearest, centre: str, depth: int) -> tuple[list[str], int]:
    """The models within so many steps of evidence, the nearest first, and how many more there were."""
    found, edge, left_out = {centre: 0.0}, [centre], 0
    nearest.find(edge, layered=True)
    for _ in range(depth):
        nearest.find(edge)
        measurer.screen((name, other) for name in edge for other in nearest.of(name))
        links = [(link.distance, other) for name in edge for other in nearest.of(name) if (link := measurer.link(name, other))]
        near = {other: distance for distance, other in sorted(links, reverse=True) if other not in found}
        ordered = sorted(near, key=lambda other: (near[other], other))
        room = max(MOST_AROUND - len(found), 0)
        left_out += len(ordered[room:])
        edge = ordered[:room]
        found |= {other: near[other] for other in edge}
    return sorted(found), left_out


class _Work:
    """From names to the answer: links, and the families that these make, one after the other."""

    def __init__(self, measurer: Measurer, names: Sequence[str], say: Say) -> None:
        self.measurer, self.say = measurer, say
        self.groups: Mapping[str, Sequence[str]] = copies(measurer, names)
        self.head = {name: first for first, same in self.groups.items() for name in same}
        self.beside = beside(measurer, self.groups)

    def link_nearest(self, nearest: Nearest) -> None:
        """Hold each model against its nearest, and those that its folder names."""
        self._link(self.groups, nearest)
        lacking = nearest.unexplained(self.groups)
        for start in range(0, len(lacking), AT_ONCE):
            nearest.find(lacking[start : start + AT_ONCE], layered=True)
            self.say(f"Single layers looked up of {min(start + AT_ONCE, len(lacking)):,} of {len(lacking):,} models.")
        self._link(lacking, nearest)

    def link_all(self) -> None:
        """Hold each model against each other one."""
        self._hold([*combinations(self.groups, 2)])

    def _link(self, names: Iterable[str], nearest: Nearest) -> None:
        wanted = []
        for first in names:
            found = [self.head.get(other) for other in nearest.of(first)]
            found += [self.head.get(model or "") for _, model in lineage_claims(self.beside.claims[first], self.beside.aliases)]
            wanted += [(first, other) for other in dict.fromkeys(found) if other is not None and other != first]
        self._hold(wanted)

    def _hold(self, wanted: Sequence[tuple[str, str]]) -> None:
        for done in self.measurer.link_many(wanted):
            self.say(f"{done:,} of {len(wanted):,} pairs of models looked at.")

    def whole(self) -> TreeAnswer:
        """The forest of all."""
        families = [names for names in self.measurer.families(self.groups) if len(names) > 1]
        related = sum(map(len, families))
        models = {name: self._model(name, ()) for name, same in self.groups.items() if len(same) > 1}
        found: list[Drawn] = []
        for names, drawn in zip(families, self._drawn_all(families, related), strict=True):
            found.append(drawn)
            placed = {name for edge in drawn.edges for name in (edge.parent, edge.child)}
            models |= {name: self._model(name, drawn.edges) for name in placed}
            self.measurer.forget(names)
            self.say(f"{sum(len(trees) for trees in families[: len(found)]):,} of {related:,} models with relatives placed.")
        alone = tuple(name for name in self.groups if name not in models)
        return self._answer(None, [models[name] for name in self.groups if name in models], _in_order(found), alone, found, 0)

    def _drawn_all(self, families: Sequence[Sequence[str]], models: int) -> Iterator[Drawn]:
        """The edges of all families, of many models by several processes."""
        if models >= MANY and (processes := processes_for(models)) > 1:
            self.measurer.fingerprint.cache_clear()  # the processes need the memory
            return drawn_by_many(self.measurer, families, self.beside, processes)
        return map(self._drawn, families)

    def around(self, asked: str, name: str, left_out: int) -> TreeAnswer:
        """The part of the forest that hangs together with one model."""
        centre = self.head[name]
        (names,) = (family for family in self.measurer.families(self.groups) if centre in family)
        drawn = self._drawn(names)
        edges = _reached(_in_order([drawn]), centre)
        shown = {name for edge in edges for name in (edge.parent, edge.child)} | {centre}
        models = [self._model(name, edges) for name in self.groups if name in shown]
        return self._answer(asked, models, edges, (), [drawn], left_out)

    def _drawn(self, names: Sequence[str]) -> Drawn:
        return Family(self.measurer, names, self.beside).drawn() if len(names) > 1 else Drawn()

    def _answer(
        self,
        around: str | None,
        models: Sequence[TreeModel],
        edges: Sequence[TreeEdge],
        alone: tuple[str, ...],
        families: Iterable[Drawn],
        left_out: int,
    ) -> TreeAnswer:
        ancestors = tuple(sorted(group for drawn in families for group in drawn.without_ancestor))
        return TreeAnswer(around, tuple(models), tuple(edges), alone, len(self.measurer.looked_at), left_out, (HINTS_ONLY,), ancestors)

    def _model(self, name: str, edges: Sequence[TreeEdge]) -> TreeModel:
        facts = self.measurer.facts(name)
        claims = tuple(self._claims(name))
        parents = [edge.parent for edge in edges if edge.child == name and edge.kind != "shared start"]
        copies_of = tuple(self.groups[name][1:])
        return TreeModel(name, copies_of, facts.parameters, facts.components, self.beside.added[name], summary(claims, parents), claims)

    def _claims(self, name: str) -> Iterator[WeighedClaim]:
        for claim, model in lineage_claims(self.beside.claims[name], self.beside.aliases):
            if model == name or (model is None and claim.kind == "name_or_path"):
                continue
            relation = None if model is None else self.measurer.relation(name, model)
            yield WeighedClaim(claim.kind, claim.value, claim.source, model, relation, verdict_on(model, relation))


def _in_order(families: Sequence[Drawn]) -> list[TreeEdge]:
    """Edges by their kinds: those of descent tree by tree, the largest first."""
    trees = [tree for drawn in families for tree in drawn.trees]
    descent = [edge for tree in sorted(trees, key=lambda tree: (-len(tree), _first(tree))) for edge in tree]
    further = [edge for drawn in families for edge in drawn.merges] + [edge for drawn in families for edge in drawn.parts]
    starts = (edge for drawn in families for edge in drawn.starts)
    return descent + further + sorted(starts, key=lambda edge: (edge.distance, edge.child, edge.parent))


def _first(tree: Sequence[TreeEdge]) -> str:
    return min(name for edge in tree for name in (edge.parent, edge.child))


def _reached(edges: Sequence[TreeEdge], centre: str) -> list[TreeEdge]:
    """The edges that hang together with a model."""
    found, grown = {centre}, True
    while grown:
        more = {name for edge in edges if {edge.parent, edge.child} & found for name in (edge.parent, edge.child)}
        grown, found = not more <= found, found | more
    return [edge for edge in edges if edge.parent in found]
