"""The registered models as fingerprints: the one way from numbers and names to them, and from a query to what it is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.relations.pairs import Held, Kin, hold
from modelkin_registry.search.candidates import find_candidates, index_rows
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.digests import sampled_digest
from modelkin_registry.store.records import StoredModel
from modelkin_registry.store.rows import IndexRows
from modelkin_registry.store.store import Store

AT_ONCE = 256  # fingerprints in memory at once


class Known:
    """What an open registry holds, read when it is asked for."""

    def __init__(self, store: Store, index: VectorIndex) -> None:
        self.store, self.index = store, index

    def named(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return read(self.store.get(name))

    def numbered(self, number: int) -> Fingerprint:
        """The fingerprint of the model with this number. Raises KeyError."""
        return read(self.store.stored([number])[number])

    def nearest(self, fingerprint: Fingerprint, limit: int) -> dict[str, Fingerprint]:
        """The models that the index finds by a fingerprint, by name, best first; only those with a vote."""
        stored = self.store.stored(find_candidates(self.index, fingerprint, limit=limit, nearest=0))
        return {model.name: read(model) for model in stored.values()}

    def kin(self, fingerprint: Fingerprint, wanted: Sequence[int], judge: Judge) -> tuple[list[Kin], dict[int, Held]]:
        """Every wanted model held against the query, and by number the measurements of those with evidence."""
        found: list[Kin] = []
        evident: dict[int, Held] = {}
        for held in self._held(fingerprint, wanted, judge):
            found.append(kin := held.kin())
            if has_evidence(kin.relative):
                evident[held.model_id] = held
        return found, evident

    def _held(self, fingerprint: Fingerprint, wanted: Sequence[int], judge: Judge) -> Iterator[Held]:
        for start in range(0, len(wanted), AT_ONCE):
            for model in self.store.stored(wanted[start : start + AT_ONCE]).values():
                yield hold(fingerprint, read(model), model.name, judge, origin=model.origin, model_id=model.model_id)

    def content_in_full(self, name: str, probe: Fingerprint) -> str:
        """The content that a probe belongs to: the model's newest revision, if that was read in full and its sampled rows are the same."""
        if probe.about.level == "full" or name not in self.store:
            return ""
        stored = self.store.get(name)
        newest = read(stored)
        same = newest.about.level == "full" and sampled_digest(newest) == sampled_digest(probe)
        return stored.content if same else ""


def rows_of(blob: bytes) -> list[IndexRows]:
    """The search rows of a stored fingerprint."""
    return index_rows(fingerprints.from_bytes(blob))


def read(stored: StoredModel) -> Fingerprint:
    """The fingerprint that a stored model holds."""
    return fingerprints.from_bytes(stored.blob, stored.name)
