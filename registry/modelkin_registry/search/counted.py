"""What a question needs to know of the whole registry, counted once while nothing changes: of a million models it takes half a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelkin_indexer import spec
from modelkin_indexer.errors import RegistryError
from modelkin_registry.search.questioned import Questioned


class Counted:
    """Numbers of an open registry. Everything that moves one of them is in the change log."""

    def __init__(self, store: Questioned) -> None:
        self._store = store
        self._known: dict[Callable[[], Any], Any] = {}
        self._generation = -1

    def searchable(self) -> int:
        """How many revisions are searched. Raises RegistryError where there are models, but none of them is."""
        searched: int = self._once(self._store.count_revisions)
        if not searched and self._once(self._store.outdated):
            raise RegistryError(
                f"{self._store.name}: all its fingerprints are of an older spec and cannot be compared with those of spec "
                f"{spec.VERSION!r}. Make them anew with `modelkin upgrade`."
            )
        return searched

    def models(self) -> int:
        """Number of models."""
        found: int = self._once(self._store.count)
        return found

    def senders(self) -> Mapping[str, str]:
        """The imported models, by present name, each with the file that brought it."""
        found: Mapping[str, str] = self._once(self._store.senders)
        return found

    def _once(self, ask: Callable[[], Any]) -> Any:
        if (now := self._store.generation()) != self._generation:
            self._known, self._generation = {}, now
        if ask not in self._known:
            self._known[ask] = ask()
        return self._known[ask]
