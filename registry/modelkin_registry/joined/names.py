"""What models of several registries are called: as in their own, and with that registry's name where another one has another model so."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from modelkin_registry.store.address import Address
from modelkin_registry.store.protocol import Store

MARKED = re.compile(r"(?P<name>.+) (?P<opened>\[+)(?P<label>[^\[\]].*?)(?P<closed>\]+)", re.DOTALL)  # `llama [team.db]`


def labels_of(stores: Sequence[Store]) -> list[str]:
    """What stands for each registry behind a name: its file's name, or its whole place where two have the same."""
    short = [store.name if isinstance(store.place, Address) else Path(store.name).name for store in stores]
    return [name if short.count(name) == 1 and name.strip("[]") == name else stores[at].name for at, name in enumerate(short)]


class Names:
    """The names of models of several registries. `is_seen` tells whether a model, by the place of its registry and its number there, has
    weights that no registry before it has."""

    def __init__(self, stores: Sequence[Store], is_seen: Callable[[int, int], bool]) -> None:
        self._stores, self._is_seen, self.labels = stores, is_seen, labels_of(stores)

    def told(self, place: int, model: str, name: str) -> str:
        """What a revision that is called `name` in its registry, of a model called `model`, is called among all."""
        if not any(self._has(other, text) for other in range(len(self._stores)) if other != place for text in {model, name}):
            return name
        depth = 1
        while any((marked := self._marked(place, name, depth)) in store for store in self._stores):
            depth += 1  # somebody gave a model this very name: theirs means theirs
        return marked

    def meant(self, name: str) -> list[tuple[int, str]]:
        """What such a name, or one that a registry has, may mean: places of registries, and the name there."""
        found = [(place, name) for place, store in enumerate(self._stores) if name in store]
        if found or (marked := MARKED.fullmatch(name)) is None or len(marked["opened"]) != len(marked["closed"]):
            return found
        return [
            (place, marked["name"])
            for place, store in enumerate(self._stores)
            if self.labels[place] == marked["label"] and marked["name"] in store
        ]

    def _marked(self, place: int, name: str, depth: int) -> str:
        return f"{name} {'[' * depth}{self.labels[place]}{']' * depth}"

    def _has(self, place: int, name: str) -> bool:
        model = self._stores[place].find(name)
        return model is not None and self._is_seen(place, model)
