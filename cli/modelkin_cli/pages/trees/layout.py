"""A forest as rows to draw: every model once, under one parent, with its further edges beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from modelkin_registry.answers.tree import TreeAnswer, TreeEdge, TreeModel

KINDS = ("descent", "merge", "part", "shared start")  # a model hangs on the first of its edges in this order


class Row(Struct, frozen=True):
    """One model at its depth; `edge` leads to the model above it (None for a root), `further` are its other edges to what came before."""

    model: TreeModel
    depth: int
    edge: TreeEdge | None
    further: tuple[TreeEdge, ...]


def rows(answer: TreeAnswer) -> list[Row]:
    """All models, each below the one it hangs on; larger families first."""
    models = {model.model: model for model in answer.models}
    edges: dict[str, list[TreeEdge]] = defaultdict(list)
    for edge in sorted(answer.edges, key=lambda edge: (KINDS.index(edge.kind), -(edge.weight or 0.0), edge.distance, edge.parent)):
        edges[edge.child].append(edge)
    below: dict[str, list[str]] = defaultdict(list)
    for name, found in edges.items():
        if found[0].kind != "shared start":
            below[found[0].parent].append(name)
    placed: list[Row] = []
    hung = {name for names in below.values() for name in names}
    for root in [*(name for name in models if name not in hung), *models]:  # the second round reaches models that hang on each other
        placed += _family(root, models, edges, below, {row.model.model for row in placed})
    return placed


def _family(
    root: str, models: dict[str, TreeModel], edges: dict[str, list[TreeEdge]], below: dict[str, list[str]], seen: set[str]
) -> Iterator[Row]:
    waiting = [(root, 0)]
    while waiting:
        name, depth = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = edges.get(name, [])
        first = found[0] if depth else None
        yield Row(models[name], depth, first, tuple(edge for edge in found if edge is not first))
        waiting += [(child, depth + 1) for child in sorted(below.get(name, ()), reverse=True)]
