"""The indexes of several registries searched as one: of each the nearest, and the nearest of these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from modelkin_registry.joined.numbers import Numbers
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.ranking import Hits
from modelkin_registry.store.rows import Array

Hidden = Callable[[], Collection[int]]
COLUMNS = ("revisions", "components", "layers", "scores")


class JoinedIndex:
    """Nearest rows of several open registries. What hits are is told by numbers among all; revisions that are `hidden` are no hits."""

    def __init__(
        self,
        indexes: Sequence[VectorIndex],
        numbers: Numbers,
        hidden: Hidden,
        models_of: Callable[[Iterable[int]], Mapping[int, int]],
        only: Collection[int] | None = None,
    ) -> None:
        self._indexes, self._numbers, self._hidden, self.models_of = indexes, numbers, hidden, models_of
        self._only = None if only is None else numbers.by_place(only)

    def among(self, revisions: Collection[int] | None) -> JoinedIndex:
        """The index asked for these revisions alone; for all of them where there are none given."""
        return self if revisions is None else JoinedIndex(self._indexes, self._numbers, self._hidden, self.models_of, revisions)

    def search(self, kind: str, queries: Array, k: int) -> Hits:
        """As of one registry."""
        return self._joined(k, len(queries), lambda index, only: index.search(kind, queries, k, only))

    def search_exact(self, kind: str, queries: Array, k: int) -> Hits:
        """As of one registry."""
        return self._joined(k, len(queries), lambda index, only: index.search_exact(kind, queries, k, only))

    def _joined(self, k: int, queries: int, search: Callable[[VectorIndex, Array | None], Hits]) -> Hits:
        """The k best of all; who is hidden has as good a hit in another registry, so that none is missing."""
        hidden, found = np.fromiter(self._hidden(), np.int64), []
        for place, index in enumerate(self._indexes):
            if self._only is None or place in self._only:
                only = None if self._only is None else np.array(sorted(self._only[place]), np.int64)
                found.append(self._among_all(place, search(index, only), hidden))
        if not found:
            shape = (queries, k)
            return Hits(np.full(shape, -1), np.full(shape, ""), np.full(shape, -1), np.full(shape, -np.inf, np.float32))
        revisions, components, layers, scores = (np.concatenate([getattr(one, column) for one in found], axis=1) for column in COLUMNS)
        ranks = [np.lexsort(keys) for keys in zip(layers, components, revisions, -scores, strict=True)]
        order = np.array(ranks, np.int64).reshape(queries, -1)[:, :k]
        return Hits(*(np.take_along_axis(column, order, axis=1) for column in (revisions, components, layers, scores)))

    def _among_all(self, place: int, hits: Hits, hidden: Array) -> Hits:
        numbers = np.where(hits.revisions >= 0, hits.revisions * self._numbers.count + place, -1)
        gone = np.isin(numbers, hidden)
        return Hits(np.where(gone, -1, numbers), hits.components, hits.layers, np.where(gone, np.float32(-np.inf), hits.scores))
