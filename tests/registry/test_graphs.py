"""Graphs of models give what a library for graphs gives, in the same order."""

from __future__ import annotations

import networkx
from hypothesis import given
from hypothesis import strategies as st

from modelkin_registry.trees.graphs import Graph, Joined, shortest

NAMES = "abcdefgh"
EDGES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(0, 3)).filter(lambda edge: edge[0] != edge[1]))
Edges = list[tuple[str, str, int]]


def graphs(edges: Edges) -> tuple[Graph[int], networkx.Graph]:
    ours, theirs = Graph[int](), networkx.Graph()
    for a, b, length in edges:
        ours.join(a, b, length)
        theirs.add_edge(a, b, weight=length)
    return ours, theirs


@given(EDGES)
def test_edges_steps_and_trees(edges: Edges) -> None:
    ours, theirs = graphs(edges)
    assert [*ours.edges()] == [*theirs.edges(data="weight")]
    assert [set(names) for names in ours.trees()] == [*networkx.connected_components(theirs)]
    for name in ours.around:
        assert ours.steps(name) == [*networkx.bfs_edges(theirs, name)]


@given(EDGES)
def test_a_pair_taken_apart_leaves_both_models(edges: Edges) -> None:
    ours, theirs = graphs(edges)
    for a, b, _ in [*ours.edges()][::2]:
        ours.part(a, b)
        theirs.remove_edge(a, b)
    assert [*ours.edges()] == [*theirs.edges(data="weight")]
    assert [*ours.around] == [*theirs]


@given(EDGES)
def test_the_shortest_edges(edges: Edges) -> None:
    ours, theirs = graphs(edges)
    found = shortest((length, a, b, length) for a, b, length in ours.edges())
    wanted = networkx.Graph()
    wanted.add_edges_from(networkx.minimum_spanning_edges(theirs, algorithm="kruskal"))
    assert [*found.edges()] == [*wanted.edges(data="weight")]


@given(EDGES)
def test_what_hangs_together(edges: Edges) -> None:
    joined, union = Joined(NAMES), networkx.utils.UnionFind(NAMES)
    for a, b, _ in edges:
        assert joined.join(a, b) == (union[a] != union[b])
        union.union(a, b)
    assert all((joined[a] == joined[b]) == (union[a] == union[b]) for a in NAMES for b in NAMES)
