"""Submissions held against one another: an index of the batch in memory, and the pairs that it finds, confirmed as a query's are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import COPIES, is_descent
from modelkin_registry.evidence.judge import Judge, Strangers
from modelkin_registry.relations.pairs import Held, Kin, hold
from modelkin_registry.relations.strangers import background
from modelkin_registry.screening.measured import kinships
from modelkin_registry.screening.rings import Between
from modelkin_registry.search.candidates import NEAREST, SEARCHED, find_candidates, index_rows
from modelkin_registry.search.ranking import Hits, checked, ranked, shortlist
from modelkin_registry.store.rows import IndexRows, TableRows, encode

# Of the submissions that are kin to the same registered models as one is, so many are held against it, the nearest: what they have in
# common is explained by those, unless one is a copy of the other or far nearer to it, and then it is among the first that are found.
FAMILY = 8
Array = npt.NDArray[np.float32]


class BatchIndex:
    """Search rows of all submissions by kind, exhaustively: what candidates need of an index. Numbers of models are places in the batch."""

    def __init__(self, batch: Sequence[Fingerprint]) -> None:
        self._count, self._codes = len(batch), dict[str, int]()
        rows: dict[str, list[tuple[int, IndexRows]]] = defaultdict(list)
        for number, fingerprint in enumerate(batch):
            for one in index_rows(fingerprint):
                rows[one.kind].append((number, one))
        self._dims = {kind: found[0][1].rows.shape[1] for kind, found in rows.items()}
        self._tables = {kind: self._table(found) for kind, found in rows.items()}

    def _table(self, rows: Iterable[tuple[int, IndexRows]]) -> TableRows:
        parts = [(number, encode(one)) for number, one in rows]
        return TableRows(
            np.concatenate([np.full(len(one.layers), number, np.int64) for number, one in parts]),
            np.concatenate([np.full(len(one.layers), self._code(one.component), np.int16) for _, one in parts]),
            np.concatenate([one.layers for _, one in parts]),
            np.concatenate([one.data for _, one in parts]),
        )

    def _code(self, component: str) -> int:
        return self._codes.setdefault(component, len(self._codes))

    def search(self, kind: str, queries: Array, k: int) -> Hits:
        """The k nearest rows of each query."""
        table = self._tables.get(kind)
        found = [] if table is None else [shortlist(table, checked(queries, kind, self._dims[kind]), kind, k)]
        return ranked(found, queries, k, np.array(list(self._codes) or [""]))

    search_exact = search

    def models_of(self, revisions: Iterable[int]) -> Mapping[int, int]:
        """Each is a model of its own."""
        return {number: number for number in revisions if 0 <= number < self._count}


class Batch(Struct, frozen=True):
    """The readable submissions in their order.

    relatives  the registered models that each is kin to
    judge      the registry's, made for one model less than there are submissions
    """

    names: Sequence[str]
    fingerprints: Sequence[Fingerprint]
    relatives: Sequence[Set[str]]
    judge: Judge

    def partners(self) -> list[list[int]]:
        """Of each submission the later ones that are worth a closer look: where the one is found by the other, or the other by the one."""
        index = BatchIndex(self.fingerprints)
        found: list[set[int]] = [set() for _ in self.names]
        for number, fingerprint in enumerate(self.fingerprints):
            voted = [other for other in find_candidates(index, fingerprint, limit=SEARCHED + 1, nearest=0) if other != number]
            family = [other for other in voted if self._share(number, other)]
            for other in {*voted} - {*family[FAMILY:]}:
                found[min(number, other)].add(max(number, other))
        return [sorted(others) for others in found]

    def between(self, first: int, partners: Sequence[int]) -> list[Between]:
        """What a submission has in common with these later ones, or they with it.

        Where nothing registered is kin to both, others without a vote are held against it too, so that it is judged beside what strangers
        of this batch show.
        """
        found = [one for other in partners for one in self._both_ways(first, other)]
        strangers = {}
        told = []
        for query, one, kin in found:
            if kin.relative.relation not in COPIES and not self._share(query, one.model_id):
                if query not in strangers:
                    strangers[query] = self._spread(query, {first, *partners})
                kin = one.kin_beside(strangers[query], kin)
            if rows := kinships(kin.relative, self.judge.searched):
                told.append(Between(self.names[query], self.names[one.model_id], tuple(rows)))
        return told

    def _share(self, one: int, other: int) -> bool:
        return not self.relatives[one].isdisjoint(self.relatives[other])

    def _both_ways(self, first: int, other: int) -> Iterator[tuple[int, Held, Kin]]:
        """The first way in which a pair shows descent: that of the earlier one, else that of the later one. Nothing where none does."""
        for query, relative in ((first, other), (other, first)):
            held = self._held(query, relative)
            if is_descent((kin := held.kin()).relative):
                yield query, held, kin
                return

    def _spread(self, query: int, kin: Container[int]) -> Strangers:
        """What strangers of the batch show of a submission: the first in its order that have parts to compare."""
        found: list[Kin] = []
        for other in (number for number in range(len(self.names)) if number not in kin):
            one = self._held(query, other).kin()
            found += [one] if one.relative.relation == "unrelated" else []
            if len(found) == NEAREST:
                break
        return background(found, (self.fingerprints[one.model_id] for one in found), self.judge).spread

    def _held(self, query: int, other: int) -> Held:
        """The one place where pairs of the batch are measured."""
        return hold(self.fingerprints[query], self.fingerprints[other], self.names[other], self.judge, model_id=other)
