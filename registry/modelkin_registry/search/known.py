"""The registered models as fingerprints: the one way from numbers and names to them, and from a query to what it is held against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from modelkin_indexer.results import fingerprint as fingerprints
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.parts import EXAMINED_SHARE
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.relations.pairs import Held, Kin, hold, order, under_their_names
from modelkin_registry.relations.strangers import Background, background
from modelkin_registry.search.candidates import find_candidates, index_rows
from modelkin_registry.search.questioned import Questioned, WholeIndex
from modelkin_registry.store.digests import sampled_digest
from modelkin_registry.store.records import DISPLACED, HUB, NewModel, StoredModel, digits_of
from modelkin_registry.store.rows import IndexRows

AT_ONCE = 256  # fingerprints in memory at once
KEPT_BYTES = (
    16 << 20
)  # of stored fingerprints that stay read: a question asks for its nearest several times. Read, they take some 4 times that
SAME_WEIGHTS = 0.9  # share of an outdated fingerprint's digests that are there again; a newer version may take a few tensors otherwise


AnyStore = TypeVar("AnyStore", bound=Questioned, covariant=True)


class Known(Generic[AnyStore]):
    """What an open registry holds, read when it is asked for."""

    def __init__(self, store: AnyStore, index: WholeIndex) -> None:
        self.store, self.index = store, index
        self._read: OrderedDict[int, tuple[bytes, Fingerprint]] = OrderedDict()
        self._read_bytes = 0

    def read(self, stored: StoredModel) -> Fingerprint:
        """The fingerprint that a stored model holds; the same object while it is kept and what is stored has not changed."""
        blob, known = self._read.pop(stored.revision, (b"", None))
        self._read_bytes -= len(blob)
        if known is None or blob != stored.blob:
            known = read(stored)
        self._read[stored.revision] = stored.blob, known
        self._read_bytes += len(stored.blob)
        while self._read_bytes > KEPT_BYTES:
            self._read_bytes -= len(self._read.popitem(last=False)[1][0])
        return known

    def named(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return self.read(self.store.get(name))

    def numbered(self, number: int) -> Fingerprint:
        """The fingerprint of the revision with this number. Raises KeyError."""
        return self.read(self.store.stored([number])[number])

    def nearest(
        self, fingerprint: Fingerprint, limit: int, without: Collection[int] = (), only: Collection[int] | None = None
    ) -> dict[str, Fingerprint]:
        """The revisions that the index finds by a fingerprint, by name, best first; those with a vote, of `only`, and none of `without`."""
        found = find_candidates(self.index.among(only), fingerprint, limit=limit + len(without), nearest=0)
        stored = self.store.stored([number for number in found if number not in without])
        return {model.name: self.read(model) for model in stored.values()}

    def kin(self, fingerprint: Fingerprint, wanted: Sequence[int], judge: Judge) -> tuple[list[Kin], dict[int, Held]]:
        """Every wanted revision held against the query, and by number the measurements of those with evidence."""
        found: list[Kin] = []
        evident: dict[int, Held] = {}
        for held in self._held(fingerprint, wanted, judge):
            found.append(kin := held.kin())
            if has_evidence(kin.relative):
                evident[held.model_id] = held
        return found, evident

    def looked_at(
        self, fingerprint: Fingerprint, wanted: Callable[[Fingerprint, bool], Sequence[int]], judge: Judge, *, may_widen: bool
    ) -> tuple[Fingerprint, list[Kin], dict[int, Held]]:
        """`kin` of the revisions that `wanted` gives; of more of them (True) before it is said that none could be compared, and all anew
        under the names of the nearest relatives where its own tell nothing. With the fingerprint under the names that were used.
        """
        kin, evident = self.kin(fingerprint, wanted(fingerprint, False), judge)
        if may_widen and not any(one.relative.compared >= EXAMINED_SHARE for one in kin):
            kin, evident = self.kin(fingerprint, wanted(fingerprint, True), judge)
        if (named := under_their_names(fingerprint, evident.values())) is not None:
            fingerprint = named
            kin, evident = self.kin(fingerprint, wanted(fingerprint, False), judge)
        return fingerprint, kin, evident

    def with_counterparts(
        self, fingerprint: Fingerprint, relatives: Iterable[Relative], evident: Iterable[Held], judge: Judge, *, tensors: bool
    ) -> list[Relative]:
        """Relatives of a query with how its tensors found their counterparts, which is told of those with evidence.

        `evident` is what was measured of this fingerprint; what is not among it is measured now.
        """
        known = {held.name: held for held in evident}
        found = []
        for one in relatives:
            if has_evidence(one) and not one.declared:
                held = known.get(one.model) or hold(fingerprint, self.named(one.model), one.model, judge)
                one = replace(one, counterparts=held.counterparts(tensors=tensors))
            found.append(one)
        return found

    def background(self, kin: Sequence[Kin], evident: Mapping[int, Held], judge: Judge) -> Background:
        """What the strangers among them show of the query, which evidence has to exceed; nothing where there is no evidence."""
        if not evident:
            return Background({})
        strangers = (self.numbered(one.model_id) for one in kin if one.relative.relation == "unrelated")
        return background(kin, strangers, judge)

    def _held(self, fingerprint: Fingerprint, wanted: Sequence[int], judge: Judge) -> Iterator[Held]:
        for start in range(0, len(wanted), AT_ONCE):
            for model in self.store.stored(wanted[start : start + AT_ONCE]).values():
                yield hold(fingerprint, self.read(model), model.name, judge, origin=model.origin, model_id=model.revision)

    def best_revisions(self, kin: Sequence[Kin]) -> list[Kin]:
        """Of each model the revision that is nearest, the newest of those equally near."""
        models = self.store.models_of(one.model_id for one in kin)
        ordered = sorted(kin, key=lambda one: (order(one)[:-1], -one.model_id))
        return [*{models[one.model_id]: one for one in reversed(ordered)}.values()]

    def as_known(self, record: NewModel, fingerprint: Fingerprint) -> NewModel:
        """The record, with the content of the newest revision if that has the same weights, read at the other level: `full` tells it."""
        newest = self.store.get(record.name)
        if record.level == newest.level or sampled_digest(read(newest)) != sampled_digest(fingerprint):
            return record
        return replace(record, content=newest.content) if newest.level == "full" else replace(record, known_as=newest.content)

    def is_unrelated(self, record: NewModel, fingerprint: Fingerprint, judge: Judge) -> bool:
        """Whether weights have nothing to do with those of the model whose name they are given.

        A content that comes back has, and so has a new commit of the Hub's repository that the model was read from: that is a fact.
        """
        newest = self.store.get(record.name)
        if newest.sender or f"{newest.model}{DISPLACED}{digits_of(record.content)}" in self.store or self._same_repository(record):
            return False
        return not has_evidence(hold(fingerprint, read(newest), newest.name, judge).kin().relative)

    def _same_repository(self, record: NewModel) -> bool:
        """Whether a commit of a repository is put to what was read from that, by this or a former name."""
        if record.who != HUB:
            return False
        shown = self.store.show(record.name)
        names = {record.origin.split("@")[0], *shown["former_names"]}
        return any(one["origin"].split("@")[0] in names for one in shown["revisions"][0]["sources"])


def same_weights(outdated: StoredModel, fingerprint: Fingerprint) -> bool:
    """Whether a fingerprint is of the weights that an outdated one was made of: by digests, which are the same in every spec."""
    before, now = fingerprints.weight_digests(outdated.blob), fingerprints.weight_digests(fingerprint.to_bytes())
    return bool(before) and len(before & now) >= SAME_WEIGHTS * len(before)


def rows_of(blob: bytes) -> list[IndexRows]:
    """The search rows of a stored fingerprint."""
    return index_rows(fingerprints.from_bytes(blob))


def read(stored: StoredModel) -> Fingerprint:
    """The fingerprint that a stored model holds."""
    return fingerprints.from_bytes(stored.blob, stored.name)
