"""Links into a forest: the shortest edges that hold each family together, and the root that the hints contradict least."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import networkx

from modelkin_registry.trees.directions import ONE_WAY, STRONG, WEAK, Hint
from modelkin_registry.trees.pairs.links import Link

# Factor on the distance to a quantised, pruned or upcycled copy: its distance to a third model differs from its original's by less than
# sketches resolve, and such copies are rarely built on (Atlas, 2503.10633: 99.4 % of quantised models are leaves).
LEAF_FACTOR = 1.1
REACH = 4  # steps within which a model looks for the middle of its family
ROUNDS = 3  # of measuring models against the middle of their family
# Distances that differ by less than this are equal for sketches: the copy B of A at 0.2 d is 1.02 d from a child of A, known to 0.005 d.
AS_NEAR = 1.02
AS_NEAR_MOVED, MOVED_NOISE = 1.1, 0.05  # the same in other coordinates, where a family's correlation is known to 0.01 or so
BETWEEN = 0.5  # of a merge's squared distance to its parents that what came after it must be farther from these: 1 expected, beside it 0
HUB = 2  # further neighbours that make a model the middle of a family
FOLLOWS = "its neighbours' directions leave no other: one parent each"
AGAINST = "signs contradict each other"
Edge = tuple[str, str]


@dataclass(frozen=True)
class Oriented:
    """An edge from parent to child. `margin`: how much more the hints would be contradicted if it were turned; 0 says nothing."""

    parent: str
    child: str
    link: Link
    margin: float
    reasons: tuple[str, ...]


class Kinship:
    """Distances between models, measured when they are asked for."""

    def __init__(self, links: Iterable[Link], measure: Callable[[str, str], Link | None]) -> None:
        self.measure = measure
        self.around: dict[str, dict[str, Link]] = defaultdict(dict)
        for link in links:
            self.around[link.a][link.b] = self.around[link.b][link.a] = link

    def distance(self, one: str, other: str) -> float:
        """Infinite where there is no evidence."""
        link = self.around[one].get(other) or self.measure(one, other)
        return link.distance if link else math.inf

    def lies_between(self, name: str, one: str, others: Iterable[str]) -> bool:
        """Whether the way from `one` to each of the others leads over this model: squares of independent steps add up."""
        steps = [(self.distance(one, other), self.distance(name, other)) for other in others if other != one]
        near = self.distance(one, name) ** 2
        return bool(steps) and all(far**2 >= near + BETWEEN * step**2 for far, step in steps)

    def is_nearer_to_all(self, one: str, other: str) -> bool:
        """Whether `one` is nearer than `other` to the models that both were held against, in the median of the differences.

        Neither a far relative, whose distances are known badly, nor one that learnt the same texts as one of the two decides alone.
        """
        common = (self.around[one].keys() & self.around[other].keys()) - {one, other}
        gaps = [self.around[one][third].weight - self.around[other][third].weight for third in sorted(common)]
        return len(gaps) >= HUB and median(gaps) < 0


def untried(edges: Iterable[Link], known: Kinship) -> list[tuple[str, str]]:
    """Pairs worth measuring next: each model with the middle of its family, which many copies may hide from it."""
    forest = networkx.Graph([(link.a, link.b) for link in edges])
    middle = {name: name for name in forest}
    for _ in range(REACH):
        middle = {name: min((middle[near] for near in (name, *forest[name])), key=lambda m: (-forest.degree[m], m)) for name in forest}
    pairs = sorted((name, hub) for name, hub in middle.items() if forest.degree[hub] > HUB and name != hub)
    return [(name, hub) for name, hub in pairs if hub not in known.around[name]]


def spanning(links: Sequence[Link], kin: Kinship) -> list[Link]:
    """The minimum spanning forest over distances, ties by name; then each model on the middle one of those that are as near to it.

    A link counts as it is known: edges that turn out to be none of whole models are left out in another round (`standing`).
    """
    graph = networkx.Graph()
    ordered = sorted(links, key=lambda link: (link.a, link.b))
    nearest = _nearest_of_leaves(ordered)
    for link in ordered:
        leaf = any(name in nearest and nearest[name] is not link for name in (link.a, link.b))
        graph.add_edge(link.a, link.b, weight=link.weight * (LEAF_FACTOR if leaf else 1.0), link=link)
    forest = networkx.Graph()
    forest.add_edges_from(networkx.minimum_spanning_edges(graph, algorithm="kruskal"))
    for a, b in sorted(forest.edges):
        for near, far in ((a, b), (b, a)):
            if forest.has_edge(near, far):
                _centre(forest, graph, near, far, kin)
    return [data["link"] for _, _, data in forest.edges(data=True)]


def standing(links: Iterable[Link], kin: Kinship) -> list[Link]:
    """The spanning forest of links between whole models. Only those that it rests on are held against each other, which takes long."""
    able = [link for link in links if link.may_be_whole]
    while True:
        forest = spanning(able, kin)
        parts = {id(link) for link in forest if not link.is_whole}
        if not parts:
            return forest
        able = [link for link in able if id(link) not in parts]


def _centre(forest: networkx.Graph, graph: networkx.Graph, model: str, other: str, kin: Kinship) -> None:
    """Hang a model on one that is as near to it as `other`, and nearer to all others, if there is such a one on that side."""
    link = graph.edges[model, other]["link"]
    near = {third: graph.edges[model, third]["link"] for third in sorted(graph[model]) if third != other}
    able = [third for third, found in near.items() if found.is_moved == link.is_moved and found.distance <= _limit(link)]
    better = [third for third in able if kin.is_nearer_to_all(third, other)]
    if not better:
        return
    best = better[0]
    for third in better[1:]:
        best = third if kin.is_nearer_to_all(third, best) else best
    forest.remove_edge(model, other)
    if networkx.has_path(forest, best, model):
        forest.add_edge(model, other, **graph.edges[model, other])
    else:
        forest.add_edge(model, best, **graph.edges[model, best])


def _limit(link: Link) -> float:
    """The distance up to which another model is as near."""
    return AS_NEAR_MOVED * link.distance + MOVED_NOISE if link.is_moved else AS_NEAR * link.distance


def _nearest_of_leaves(links: Sequence[Link]) -> dict[str, Link]:
    """Models that are a copy of some other one by a step that does not go back, each with its nearest link."""
    able = [link for link in links if link.one_way and link.is_whole]
    leaves = {child for link in able for child, other in ((link.a, link.b), (link.b, link.a)) if _is_one_way(link, child, other)}
    nearest: dict[str, Link] = {}
    for link in links:
        for name in {link.a, link.b} & leaves:
            if name not in nearest or link.distance < nearest[name].distance:
                nearest[name] = link
    return nearest


def _is_one_way(link: Link, child: str, other: str) -> bool:
    names, back = ({view.relation, *view.also} for view in (link.view(child), link.view(other)))
    return any(name in names and name not in back for name in ONE_WAY)


def oriented(edges: Sequence[Link], hints: Mapping[Edge, Sequence[Hint]]) -> list[list[Oriented]]:
    """Each tree rooted where the hints are contradicted least, so that every model has one parent at most; the largest tree first."""
    graph = networkx.Graph()
    for link in edges:
        graph.add_edge(link.a, link.b, link=link, hints=[*hints.get((link.a, link.b), ())])
    for a, b, data in graph.edges(data=True):
        data["hints"] += _central(graph, a, b)
    return [_rooted(graph, names) for names in _trees(graph)]


def _trees(graph: networkx.Graph) -> list[list[str]]:
    return sorted((sorted(names) for names in networkx.connected_components(graph)), key=lambda names: (-len(names), names[0]))


def _central(graph: networkx.Graph, a: str, b: str) -> list[Hint]:
    """A base is nearer to each of its children than these are to each other, so its children hang on it."""
    parent, child = sorted((a, b), key=lambda name: (-graph.degree[name], name))
    others = graph.degree[parent] - 1
    if others < HUB or graph.degree[parent] == graph.degree[child]:
        return []
    return [Hint(parent, child, WEAK, f"{others} further models are nearer to the other than to it")]


def _rooted(graph: networkx.Graph, names: Sequence[str]) -> list[Oriented]:
    costs = _costs(graph, names)
    root = min(names, key=lambda name: (costs[name], name))
    down = [(parent, child) for parent, child in networkx.bfs_edges(graph, root)]
    least = dict(costs)  # over the part of the tree below a model
    for parent, child in reversed(down):
        least[parent] = min(least[parent], least[child])
    return [_edge(graph, parent, child, least[child] - costs[root]) for parent, child in down]


def _costs(graph: networkx.Graph, names: Sequence[str]) -> dict[str, float]:
    """The weight of contradicted hints, for every model as the root: moving the root over an edge turns that edge alone."""
    start = names[0]
    down = list(networkx.bfs_edges(graph, start))
    costs = {start: sum(_contradicted(graph, parent, child) for parent, child in down)}
    for parent, child in down:
        costs[child] = costs[parent] - _contradicted(graph, parent, child) + _contradicted(graph, child, parent)
    return costs


def _contradicted(graph: networkx.Graph, parent: str, child: str) -> float:
    return float(sum(hint.weight for hint in graph.edges[parent, child]["hints"] if hint.parent == child))


def _edge(graph: networkx.Graph, parent: str, child: str, margin: float) -> Oriented:
    data = graph.edges[parent, child]
    reasons = tuple(hint.reason for hint in sorted(data["hints"], key=lambda h: -h.weight) if hint.parent == parent)
    against = _contradicted(graph, parent, child)
    if margin <= 0 or against >= max(STRONG, _contradicted(graph, child, parent)):
        return Oriented(parent, child, data["link"], 0.0, (AGAINST,) if against and reasons else ())
    return Oriented(parent, child, data["link"], margin, reasons or (FOLLOWS,))


def joining(edges: Iterable[Link], others: Iterable[Link], stands: Callable[[Link], bool]) -> list[Link]:
    """Of the other links that stand the nearest that join trees which the edges leave apart, each pair of trees at most once."""
    trees = networkx.utils.UnionFind()
    for link in edges:
        trees.union(link.a, link.b)
    found = []
    for link in sorted(others, key=lambda link: (link.distance, link.a, link.b)):
        if trees[link.a] != trees[link.b] and stands(link):
            trees.union(link.a, link.b)
            found.append(link)
    return found
