#!/usr/bin/env bash
# networkx.minimum_spanning_arborescence writes other weights into the caller's graph, and takes the longer of two short ways.
#
# Versions: networkx 3.6.1, numpy 2.4.6.
# A good guess: the tree's edges are edges of the graph, with their weights, and the graph stays as it was.
# Seen: each weight is turned round about the largest one and back, in the graph that was given: 0.1 is 0.10000000000000009 afterwards, in
# the tree and in the graph. What is small beside the largest weight becomes 0 and cannot be told apart, so a tree of descent by distances
# takes a parent at twice the distance. minimum_spanning_tree of an undirected graph keeps weights.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile networkx==3.6.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import networkx as nx


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def graph(kind):
    made = kind()
    made.add_weighted_edges_from([("root", "far", 1.0), ("root", "child", 2e-17), ("far", "child", 1e-17), ("root", "near", 0.1)])
    return made


directed = graph(nx.DiGraph)
tree = nx.minimum_spanning_arborescence(directed)
seen = tree["root"]["near"]["weight"]
check("the tree's weight of an edge of 0.1", 0.1, seen, seen != 0.1 and abs(seen - 0.1) < 1e-12)
seen = [directed["root"]["near"]["weight"], directed["root"]["child"]["weight"]]
check("the graph's own weights 0.1 and 2e-17 after the call", [0.1, 2e-17], seen, seen[0] != 0.1 and seen[1] == 0.0)
seen = next(iter(tree.pred["child"]))
check("parent of a child that is at 1e-17 from one and at 2e-17 from the other", "far", seen, seen == "root")
undirected = graph(nx.Graph)
seen = sorted(weight for _, _, weight in nx.minimum_spanning_tree(undirected).edges(data="weight"))
check("weights of minimum_spanning_tree, undirected", [1e-17, 2e-17, 0.1], seen, seen == [1e-17, 2e-17, 0.1])
PY
cd "$work"
venv/bin/python check.py
