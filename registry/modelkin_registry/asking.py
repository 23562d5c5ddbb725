"""What is asked of the models of an open registry: the nearest relatives, what a merge was made of, what names claim beside the weights.

Imported at the first question: evidence and all that it is judged by take longer to import than most other things are done in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.results.beside import Claim, StructurePart
from modelkin_registry.answers.asked import SHOWN, DecomposeAnswer, QueryAnswer, Searched
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.claims.adapters import base_claims, with_declared_base
from modelkin_registry.claims.contradictions import contradictions
from modelkin_registry.claims.declared import lineage_claims, texts_in, weigh
from modelkin_registry.claims.imported import about_imported
from modelkin_registry.explanation.query import query_answer
from modelkin_registry.explanation.verdict import examined_by
from modelkin_registry.relations.pairs import Held, nearest_kin, order
from modelkin_registry.search.candidates import NEAREST, SEARCHED, find_candidates
from modelkin_registry.search.counted import Counted
from modelkin_registry.search.known import Known, read
from modelkin_registry.search.questioned import Questioned, WholeIndex
from modelkin_registry.search.ties import middle_first
from modelkin_registry.structure.comparison import Structure, compare_structure

if TYPE_CHECKING:
    from modelkin_indexer.results.fingerprint import Fingerprint
    from modelkin_registry.answers.claims import StructureBeside, WeighedClaim
    from modelkin_registry.answers.evidence import Relative
    from modelkin_registry.evidence.judge import Judge
    from modelkin_registry.merging.decomposition import Decomposition

WIDER = 200  # models held against one of which nothing could be compared with the nearest: that none can be is said of those
STRUCTURE_SHOWN = 3  # relatives whose structure is shown beside


class Asked(Struct, frozen=True):
    """What a question wants of an answer (`Registry.query`), and what is said of the model that it is about."""

    source: str
    k: int
    show_all: bool
    exact: bool
    claims: Sequence[Claim]
    structure: Sequence[StructurePart]
    tensors: bool
    besides: str | None
    among: Collection[int] | None


class Asking:
    """Questions of a registry."""

    def __init__(self, store: Questioned, index: WholeIndex, known: Known[Questioned], judge: Callable[[int], Judge]) -> None:
        """`judge` makes what an answer that looks at so many models is judged by."""
        self._store, self._index, self._known, self._judge = store, index, known, judge
        self._counted = Counted(store)

    def query(self, fingerprint: Fingerprint, asked: Asked) -> QueryAnswer:
        """See `Registry.query`."""
        self._require_same_recipe(fingerprint)
        judge, store, known = self._judge, self._store, self._known
        with store.reading():
            own = set() if asked.besides is None else set(store.revisions_of(store.get(asked.besides).model_id))
            only = None if asked.among is None else sorted(set(asked.among).intersection(store.numbers()) - own)
            said, own_names = base_claims(fingerprint, asked.claims), fingerprint
            declared = self._declared(said)
            named = store.current_of(model for _, model in declared if model)
            searched, models = self._looked_through(own, only if only is None else {*only, *named} - own)

            def wanted(one: Fingerprint, more: bool) -> list[int]:
                near = max(asked.k, WIDER) if more else asked.k
                if asked.exact:
                    found: Sequence[int] = store.numbers() if only is None else only
                else:
                    found = self._candidates(one, SEARCHED + len(own), near, asked.show_all or more, only)
                return [number for number in dict.fromkeys([*found, *named]) if number not in own]

            fingerprint, kin, evident = known.looked_at(fingerprint, wanted, judge(searched), may_widen=not asked.exact)
            best = known.best_revisions(kin)
            background = known.background(best, evident, judge(1))
            ordered = nearest_kin(best, evident, background.spread, asked.k, show_all=asked.show_all)
            near = [*ordered, *(one.relative for one in sorted(best, key=order))]
            merge = self._merge(fingerprint, near, evident, without=own, only=only)
            if merge is None:
                ordered = middle_first(ordered, evident.values(), judge(1))
            ordered = with_declared_base(ordered, fingerprint, declared, kin, self._known.named, asked.k)
            measured = evident.values() if fingerprint is own_names else ()
            ordered = known.with_counterparts(own_names, ordered, measured, judge(searched), tensors=asked.tensors)
        weighed = weigh(declared, [*(one.relative for one in kin), *ordered])
        answer = query_answer(
            fingerprint,
            ordered,
            source=asked.source,
            registry=replace(self._about(), models=models),
            examined=examined_by(fingerprint, best, models),
            merge=merge,
            claims=weighed,
            contradictions=contradictions(Path(asked.source).name, asked.claims, weighed, ordered, self.claims_of),
        )
        beside = [self.structure_beside(fingerprint, asked.structure, one.model) for one in ordered[:STRUCTURE_SHOWN]]
        few = background.note_on_few if only is not None and evident else ""  # a small registry has no more to ask
        notes = (*answer.warnings, *about_imported(ordered, self._counted.senders()), *filter(None, (background.note, few)))
        return replace(answer, structure=tuple(beside), warnings=notes)

    def decompose(self, fingerprint: Fingerprint, parents: Sequence[str] | None, base: str | None, source: str) -> DecomposeAnswer:
        """See `Registry.decompose`."""
        from modelkin_registry.merging.reporting import fitted, sought  # of all questions, this one alone needs it

        self._require_same_recipe(fingerprint)
        with self._store.reading():
            known = {name: self._known.named(name) for name in (*(parents or ()), *([base] if base else ()))}
            if parents:
                return fitted(fingerprint, known, base=base, source=source, registry=self._about())
            wanted = self._candidates(fingerprint, SEARCHED, SHOWN, False)
            kin, evident = self._known.kin(fingerprint, wanted, self._judge(self._counted.searchable()))
            best = self._known.best_revisions(kin)
            near = nearest_kin(best, evident, self._known.background(best, evident, self._judge(1)).spread, SHOWN)
            merge = self._merge(fingerprint, [*near, *(one.relative for one in sorted(best, key=order))], evident, base)
        return sought(fingerprint, merge, near, source=source, registry=self._about())

    def weighed_claims(self, name: str) -> tuple[WeighedClaim, ...]:
        """See `Registry.weighed_claims`."""
        with self._store.reading():
            stored = self._store.get(name)
            if stored.spec != spec.VERSION:
                return ()
            fingerprint = read(stored)
            said = self._declared(base_claims(fingerprint, self.claims_of(name)))
            declared = [(claim, model) for claim, model in said if model != stored.model]
            if not declared:
                return ()
            named = self._store.current_of(model for _, model in declared if model)
            kin, _ = self._known.kin(fingerprint, named, self._judge(self._store.count_revisions()))
            relatives = with_declared_base([one.relative for one in kin], fingerprint, declared, kin, self._known.named, len(kin))
        return weigh(declared, [*(one.relative for one in kin), *relatives])

    def structure_beside(self, fingerprint: Fingerprint, structure: Sequence[StructurePart], name: str) -> StructureBeside:
        """See `Registry.structure_beside`."""
        with self._store.reading():
            known, kept = self._store.get(name), self._store.structure
            mine, theirs = Structure(fingerprint.about.config or {}, structure), Structure(known.config, kept.of_model(known.model_id))
            return compare_structure(mine, theirs, name, lambda hashes: kept.elsewhere(hashes, known.model_id))

    def claims_of(self, name: str) -> list[Claim]:
        """What is said of a registered model now. Raises UnknownModel."""
        said = self._store.show(name)["claims"]
        return [Claim(claim["kind"], claim["value"], claim["source"]) for claim in said if claim["current"]]

    def _declared(self, claims: Sequence[Claim]) -> list[tuple[Claim, str | None]]:
        """The claims of descent, each with the registered model that it means; in a large registry few names are looked at for that."""
        texts = texts_in(claims)
        return lineage_claims(claims, self._store.claims.aliases(texts or ()) if texts != [] else ())

    def _merge(
        self,
        fingerprint: Fingerprint,
        relatives: Sequence[Relative],
        evident: Mapping[int, Held],
        base: str | None = None,
        without: Collection[int] = (),
        only: Collection[int] | None = None,
    ) -> Decomposition | None:
        """A merge of the nearest relatives by descent and what else the index finds for the part that those leave."""
        known = {held.name: held.relative for held in evident.values()}
        near = {relative.model: known[relative.model] for relative in relatives if is_descent(relative)}
        if not near:
            return None
        from modelkin_registry.merging.seeking import NEAR, PURSUED, seek_merge  # of most models no parent is here

        return seek_merge(fingerprint, near, lambda asked: self._known.nearest(asked, NEAR + PURSUED, without, only), base)

    def _candidates(
        self, fingerprint: Fingerprint, candidates: int, k: int, show_all: bool, only: Collection[int] | None = None
    ) -> Sequence[int]:
        nearest = max(NEAREST, k if show_all else 0)
        return find_candidates(self._index.among(only), fingerprint, limit=max(candidates, k), nearest=nearest)

    def _looked_through(self, own: Collection[int], only: Collection[int] | None) -> tuple[int, int]:
        """How many revisions are searched, and of how many models, without a model's `own`: all, or these."""
        if only is not None:
            return len(only), len(set(self._store.models_of(only).values()))
        hidden = len(set(own).difference(self._store.outdated())) if own else 0
        return self._counted.searchable() - hidden, self._counted.models() - bool(own)

    def _about(self) -> Searched:
        return Searched(self._counted.models(), spec.VERSION, self._store.key_name, self._store.backgrounds.told())

    def _require_same_recipe(self, fingerprint: Fingerprint) -> None:
        if fingerprint.about.key != self._store.key_name:
            raise FingerprintError(
                f"made with key {fingerprint.about.key!r}, while the registry {self._store.name} uses {self._store.key_name!r}. "
                "Give the registry's key with --key-file."
            )
