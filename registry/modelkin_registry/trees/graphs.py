"""Graphs of models: what lies between two, in the order in which it was put in, so that a tree depends on nothing else.

Of a graph library this is the little that trees need. Importing one takes a tenth of a second, as long as half of what a small tree takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Data = TypeVar("Data")


class Graph(Generic[Data]):
    """What lies between models, without directions: `around[a][b]` is `around[b][a]`."""

    def __init__(self, around: dict[str, dict[str, Data]] | None = None) -> None:
        self.around = {} if around is None else around

    def join(self, a: str, b: str, data: Data) -> None:
        """Put something between two models."""
        self.around.setdefault(a, {})[b] = data
        self.around.setdefault(b, {})[a] = data

    def part(self, a: str, b: str) -> None:
        """Take it away; both models stay."""
        del self.around[a][b], self.around[b][a]

    def edges(self) -> Iterator[tuple[str, str, Data]]:
        """Each pair once, from the model that came first."""
        before: set[str] = set()
        for a, near in self.around.items():
            before.add(a)
            yield from ((a, b, data) for b, data in near.items() if b not in before)

    def steps(self, start: str) -> list[tuple[str, str]]:
        """The steps by which all that hangs together with a model is reached from it, the nearest first: (from, to), each model once."""
        reached, found = {start}, list[tuple[str, str]]()
        waiting = [start]
        for here in waiting:  # grows
            new = [name for name in self.around[here] if name not in reached]
            reached.update(new)
            waiting += new
            found += [(here, name) for name in new]
        return found

    def trees(self) -> Iterator[list[str]]:
        """The models that hang together, in the order in which they are reached."""
        reached: set[str] = set()
        for start in self.around:
            if start not in reached:
                found = [start, *(name for _, name in self.steps(start))]
                reached.update(found)
                yield found


class Joined:
    """Models that hang together, as pairs of them are joined."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._towards = {name: name for name in names}
        self._sizes: dict[str, int] = {}

    def __getitem__(self, name: str) -> str:
        """The one that stands for all that hang together with a model."""
        towards = self._towards
        towards.setdefault(name, name)
        passed = []
        while towards[name] != name:
            passed.append(name)
            name = towards[name]
        towards |= dict.fromkeys(passed, name)
        return name

    def join(self, a: str, b: str) -> bool:
        """Whether the two did not hang together yet; they do from now on."""
        a, b = self[a], self[b]
        if a == b:
            return False
        sizes = self._sizes
        if sizes.get(a, 1) < sizes.get(b, 1):
            a, b = b, a
        self._towards[b] = a
        sizes[a] = sizes.get(a, 1) + sizes.get(b, 1)
        return True


def shortest(edges: Iterable[tuple[float, str, str, Data]]) -> Graph[Data]:
    """The shortest edges that hold together what they can (Kruskal 1956); of equally long ones the first."""
    found, joined = Graph[Data](), Joined()
    for _, a, b, data in sorted(edges, key=lambda edge: edge[0]):
        if joined.join(a, b):
            found.join(a, b, data)
    return found
