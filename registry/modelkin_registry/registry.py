"""The face of a registry: open it, add fingerprints, ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelkin_indexer import spec
from modelkin_indexer.errors import FingerprintError, RegistryError
from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer, Searched
from modelkin_registry.answers.claims import StructureBeside, WeighedClaim
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.answers.trajectory import Resemblance, TrajectoryAnswer
from modelkin_registry.answers.upkeep import Finding, ListedModel
from modelkin_registry.claims.adapters import base_claims, with_declared_base
from modelkin_registry.claims.contradictions import contradictions
from modelkin_registry.claims.declared import lineage_claims, texts_in, weigh
from modelkin_registry.claims.imported import about_imported
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.explanation.query import query_answer
from modelkin_registry.explanation.verdict import examined_by
from modelkin_registry.merging.decomposition import Decomposition
from modelkin_registry.merging.reporting import fitted, sought
from modelkin_registry.merging.seeking import NEAR, PURSUED, seek_merge
from modelkin_registry.relations.pairs import Held, nearest_kin, order
from modelkin_registry.search.candidates import NEAREST, SEARCHED, find_candidates, index_rows
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.known import Known, read, rows_of, same_weights
from modelkin_registry.search.ties import middle_first
from modelkin_registry.store.address import place_of
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.digests import content_digest
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import NewModel, PutResult, StoredModel
from modelkin_registry.structure.comparison import Structure, compare_structure

if TYPE_CHECKING:
    from modelkin_registry.answers.shared import TakenIn
    from modelkin_registry.answers.tree import TreeAnswer
    from modelkin_registry.answers.upkeep import OwnBackground

WIDER = 200  # models held against one of which nothing could be compared with the nearest: that none can be is said of those
SHOWN = 10  # relatives shown unless asked for more
STRUCTURE_SHOWN = 3  # relatives whose structure is shown beside


class Registry:
    """An open registry. Use from the thread that opened it; several processes may have the same one open.

    >>> with Registry.open(path) as registry:  # doctest: +SKIP
    ...     answer = registry.query(fingerprint)
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = VectorIndex.open(store)
        self.known = Known(store, self.index)
        self.backgrounds = store.backgrounds.used()

    @classmethod
    def open(cls, place: str | Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry in this file, or at this address of PostgreSQL. Raises RegistryError."""
        return cls(open_store(place_of(place), create=create, key_name=key_name))

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def add(
        self,
        name: str,
        fingerprint: Fingerprint,
        *,
        origin: str = "",
        who: str = "local",
        files: Sequence[SourceFile] = (),
        claims: Sequence[Claim] = (),
        structure: Sequence[StructurePart] = (),
        replace: bool = False,
    ) -> PutResult:
        """Store a model's fingerprint, whole or not at all. The same content again is "unchanged".

        Weights that show kinship to those of the name's model are a new revision of it, and so is a new commit of the Hub's repository that
        it was read from. Others are refused, unless `replace`: the model that has the name is then kept as `name@digits`.

        Raises:
            NameTaken: the name is that of a model which these weights have nothing to do with.
            RegistryError: another key or spec, a name that cannot be stored, trouble with the file.
        """
        record = _record(name, fingerprint, files=tuple(files), who=who, origin=origin, claims=tuple(claims), structure=tuple(structure))
        with self.store.batch():  # what has the name now must have it still when this is stored
            unrelated = False
            if name in self.store and (newest := self.store.get(name)).spec != spec.VERSION:
                unrelated = not self.renew(newest.revision, fingerprint)
            elif name in self.store:
                record = self.known.as_known(record, fingerprint)
                unrelated = self.known.is_unrelated(record, fingerprint, self.judge(1))
            return self.store.put(record, index_rows(fingerprint), unrelated=unrelated, replace=replace)

    def renew(self, revision: int, fingerprint: Fingerprint) -> bool:
        """Put a fingerprint in the place of an outdated one; False, and nothing is done, where it is of other weights."""
        outdated = self.store.stored([revision])[revision]
        if not same_weights(outdated, fingerprint):
            return False
        self.store.renew(revision, _record(outdated.name, fingerprint), index_rows(fingerprint))
        return True

    def refresh(self) -> None:
        """Bring the vector index up to date after many additions."""
        self.index.refresh()

    def get(self, name: str) -> Fingerprint:
        """A registered model's fingerprint. Raises UnknownModel."""
        return self.known.named(name)

    def query(
        self,
        fingerprint: Fingerprint,
        *,
        source: str = "",
        k: int = SHOWN,
        show_all: bool = False,
        exact: bool = False,
        candidates: int = SEARCHED,
        claims: Sequence[Claim] = (),
        structure: Sequence[StructurePart] = (),
        tensors: bool = False,
        besides: str | None = None,
        among: Collection[int] | None = None,
    ) -> QueryAnswer:
        """The registered models nearest to a fingerprint, with evidence.

        `show_all` adds the nearest without evidence; `exact` confirms every registered model instead of the index's candidates. Models that
        `claims` name are held against it too, and each claim is told beside what the weights show; it changes nothing else. `tensors` lists
        every tensor with its counterpart in each relative. `besides` names a registered model that is left out, with all its revisions, as
        if it were not there: the one that the fingerprint is of. `among` are numbers of revisions: they alone are asked for, as if the
        registry had no others, and all of their search rows are looked at.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
            UnknownModel: `besides` is not registered.
        """
        self._require_same_recipe(fingerprint)
        with self.store.reading():
            own = set() if besides is None else set(self.store.revisions_of(self.store.get(besides).model_id))
            only = None if among is None else sorted(set(among).intersection(self.store.numbers()) - own)
            (searched, models), own_names = self._asked(own, only), fingerprint
            said = base_claims(fingerprint, claims)
            declared = self._declared(said)
            named = self.store.current_of(model for _, model in declared if model)

            def wanted(one: Fingerprint, more: bool) -> list[int]:
                near = max(k, WIDER) if more else k
                every = self.store.numbers() if only is None else only
                found = every if exact else self._candidates(one, candidates + len(own), near, show_all or more, only)
                return [number for number in dict.fromkeys([*found, *named]) if number not in own]

            fingerprint, kin, evident = self.known.looked_at(fingerprint, wanted, self.judge(searched), may_widen=not exact)
            best = self.known.best_revisions(kin)
            background = self.known.background(best, evident, self.judge(1))
            ordered = nearest_kin(best, evident, background.spread, k, show_all=show_all)
            merge = self._merge(
                fingerprint, [*ordered, *(one.relative for one in sorted(best, key=order))], evident, without=own, only=only
            )
            if merge is None:
                ordered = middle_first(ordered, evident.values(), self.judge(1))
            ordered = with_declared_base(ordered, fingerprint, declared, kin, self.get, k)
            measured = evident.values() if fingerprint is own_names else ()
            ordered = self.known.with_counterparts(own_names, ordered, measured, self.judge(searched), tensors=tensors)
        weighed = weigh(declared, [*(one.relative for one in kin), *ordered])
        differing = contradictions(Path(source).name, claims, weighed, ordered, self.claims_of)
        about: dict[str, Any] = {
            "source": source,
            "registry": replace(self._about(), models=models),
            "examined": examined_by(fingerprint, best, models),
            "merge": merge,
        }
        beside = [self.structure_beside(fingerprint, structure, one.model) for one in ordered[:STRUCTURE_SHOWN]]
        answer = query_answer(fingerprint, ordered, **about, claims=weighed, contradictions=differing)
        notes = (*answer.warnings, *about_imported(ordered, self.store.senders()), *([background.note] if background.note else []))
        return replace(answer, structure=tuple(beside), warnings=notes)

    def weighed_claims(self, name: str) -> tuple[WeighedClaim, ...]:
        """What a registered model claims to be made from, beside what the weights show of it; nothing of an outdated fingerprint.

        Raises UnknownModel.
        """
        with self.store.reading():
            stored = self.store.get(name)
            if stored.spec != spec.VERSION:
                return ()
            fingerprint = read(stored)
            said = self._declared(base_claims(fingerprint, self.claims_of(name)))
            declared = [(claim, model) for claim, model in said if model != stored.model]
            if not declared:
                return ()
            named = self.store.current_of(model for _, model in declared if model)
            kin, _ = self.known.kin(fingerprint, named, self.judge(self.store.count_revisions()))
            relatives = with_declared_base([one.relative for one in kin], fingerprint, declared, kin, self.get, len(kin))
        return weigh(declared, [*(one.relative for one in kin), *relatives])

    def _declared(self, claims: Sequence[Claim]) -> list[tuple[Claim, str | None]]:
        """The claims of descent, each with the registered model that it means; in a large registry few names are looked at for that."""
        texts = texts_in(claims)
        return lineage_claims(claims, self.store.claims.aliases(texts or ()) if texts != [] else ())

    def all_weighed_claims(self) -> dict[str, tuple[WeighedClaim, ...]]:
        """`weighed_claims` of every model that names another registered one, by its name; the pairs are looked at all at once."""
        from modelkin_registry.batches.claims import weighed_claims

        with self.store.reading():
            found = weighed_claims(self.known, self.judge(self.store.count_revisions()))
            # adapters, which hold no weights of their bases, are fitted to them one by one
            alone = [name for name, claims in found.items() if any(one.verdict == "not comparable" for one in claims)]
            return found | {name: self.weighed_claims(name) for name in alone}

    def structure_beside(self, fingerprint: Fingerprint, structure: Sequence[StructurePart], name: str) -> StructureBeside:
        """A model's structure beside that of a registered one, never evidence. Raises UnknownModel."""
        with self.store.reading():
            known = self.store.get(name)
            mine, theirs = Structure(fingerprint.about.config or {}, structure), self._structure(known)
            return compare_structure(mine, theirs, name, lambda hashes: self.store.structure.elsewhere(hashes, known.model_id))

    def structure_of(self, name: str) -> list[StructurePart]:
        """The present structure of a registered model. Raises UnknownModel."""
        return self.store.structure.of_model(self.store.get(name).model_id)

    def _structure(self, stored: StoredModel) -> Structure:
        return Structure(stored.config, self.store.structure.of_model(stored.model_id))

    def claims_of(self, name: str) -> list[Claim]:
        """What is said of a registered model now. Raises UnknownModel."""
        said = self.store.show(name)["claims"]
        return [Claim(claim["kind"], claim["value"], claim["source"]) for claim in said if claim["current"]]

    def decompose(
        self, fingerprint: Fingerprint, parents: Sequence[str] | None = None, *, base: str | None = None, source: str = ""
    ) -> DecomposeAnswer:
        """Which registered models, in which proportion, a merge was made of. `parents` names them; without, they are sought.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
            UnknownModel: a parent or base that is not registered.
        """
        self._require_same_recipe(fingerprint)
        with self.store.reading():
            known = {name: self.get(name) for name in (*(parents or ()), *([base] if base else ()))}
            if parents:
                return fitted(fingerprint, known, base=base, source=source, registry=self._about())
            wanted = self._candidates(fingerprint, SEARCHED, SHOWN, False)
            kin, evident = self.known.kin(fingerprint, wanted, self.judge(self._searchable()))
            best = self.known.best_revisions(kin)
            near = nearest_kin(best, evident, self.known.background(best, evident, self.judge(1)).spread, SHOWN)
            merge = self._merge(fingerprint, [*near, *(one.relative for one in sorted(best, key=order))], evident, base)
        return sought(fingerprint, merge, near, source=source, registry=self._about())

    def judge(self, searched: int) -> Judge:
        """What this registry judges by, for an answer that looks at so many models."""
        return Judge(searched, self.backgrounds, {})

    def _about(self) -> Searched:
        return Searched(self.store.count(), spec.VERSION, self.store.key_name, self.store.backgrounds.told())

    def compare(
        self, a: Fingerprint, b: Fingerprint, *, a_name: str = "A", b_name: str = "B", controls: Mapping[str, Fingerprint] | None = None
    ) -> CompareAnswer:
        """Hold two fingerprints against each other, and third models against both. Raises FingerprintError."""
        from modelkin_registry.explanation.compare import compare_fingerprints

        return compare_fingerprints(a, b, a_name=a_name, b_name=b_name, controls=controls or {}, judge=self.judge(1))

    def tree(self, model: str | None = None, *, depth: int = 2, say: Callable[[str], None] = lambda words: None) -> TreeAnswer:
        """The registered models as family trees, all of them or those at most `depth` steps from one. Raises UnknownModel.

        `say` is told how far the work has come where there are many models.
        """
        from modelkin_registry.trees.trees import family_tree  # networkx takes longer to import than a query does

        with self.store.reading():
            return family_tree(self.known, self.judge(self.store.count()), model, depth, say)

    def trajectory(self, names: Sequence[str], series: Sequence[Fingerprint]) -> TrajectoryAnswer:
        """Examine checkpoints said to lead from a random start to the last one, the registry beside them. Raises FingerprintError."""
        from modelkin_registry.trajectories.trajectories import examine_series, mean_r

        found = []
        for step, fingerprint in enumerate(series):
            relatives = self.query(fingerprint, source=names[step], k=1).relatives
            found += [Resemblance(step, one.model, one.relation, mean_r(one)) for one in relatives if is_descent(one)]
        return examine_series(names, series, self.judge(1), found)

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
        return seek_merge(fingerprint, near, lambda asked: self.known.nearest(asked, NEAR + PURSUED, without, only), base)

    def _candidates(
        self, fingerprint: Fingerprint, candidates: int, k: int, show_all: bool, only: Collection[int] | None = None
    ) -> Sequence[int]:
        nearest = max(NEAREST, k if show_all else 0)
        return find_candidates(self.index.among(only), fingerprint, limit=max(candidates, k), nearest=nearest)

    def _asked(self, own: Collection[int], only: Collection[int] | None) -> tuple[int, int]:
        """How many revisions are searched, and of how many models, without a model's `own`: all, or these."""
        if only is not None:
            return len(only), len(set(self.store.models_of(only).values()))
        return self._searchable() - len(set(own).difference(self.store.outdated())), self.store.count() - bool(own)

    def _searchable(self) -> int:
        """How many revisions are searched. Raises RegistryError where there are models, but none of them is."""
        searched, outdated = self.store.count_revisions(), self.store.outdated()
        if outdated and not searched:
            raise RegistryError(
                f"{self.store.name}: all its fingerprints are of an older spec and cannot be compared with those of spec {spec.VERSION!r}. "
                "Make them anew with `modelkin upgrade`."
            )
        return searched

    def _require_same_recipe(self, fingerprint: Fingerprint) -> None:
        if fingerprint.about.key != self.store.key_name:
            raise FingerprintError(
                f"made with key {fingerprint.about.key!r}, while the registry {self.store.name} uses {self.store.key_name!r}. "
                "Give the registry's key with --key-file."
            )

    def list(self) -> list[ListedModel]:
        """One line a model, by name."""
        return self.store.listed()

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors. Raises UnknownModel."""
        return self.store.show(name)

    def remove(self, name: str) -> None:
        """Forget a model. Raises UnknownModel."""
        self.store.remove(name)

    def rename(self, old: str, new: str) -> None:
        """Give a model another name; the old one keeps resolving. Raises UnknownModel, RegistryError."""
        self.store.rename(old, new)

    def export(self, path: str | Path, *, paths: bool = True) -> tuple[int, str]:
        """Write all models into one file for others. Returns their number and the file's digest. Raises SharedFileError."""
        from modelkin_registry.sharing.giving_out import export_registry

        with appearing(Path(path)) as unfinished:
            return export_registry(self.store, unfinished, paths=paths)

    def take_in(self, path: str | Path, *, sender: str = "") -> tuple[Sequence[TakenIn], str]:
        """Take in all models of such a file, apart from those here and marked with the `sender`: the file's name unless told otherwise.

        Returns what became of each model, and the file's digest.

        Raises:
            SharedFileError: the file is not sound; nothing has changed then.
        """
        from modelkin_registry.sharing.taking_in import import_registry

        taken = import_registry(self.store, Path(path), sender)
        self.refresh()
        return taken

    def calibrate(self) -> tuple[OwnBackground, ...]:
        """Measure what this registry's strangers look like, and judge by that from now on. Raises RegistryError."""
        from modelkin_registry.batches.calibration import measure_backgrounds

        with self.store.reading():
            current = self.store.stored(self.store.numbers(current=True)).values()
            found = measure_backgrounds((one.name, read(one)) for one in sorted(current, key=lambda one: one.name))
        self._keep_backgrounds(found)
        return found

    def forget_backgrounds(self) -> tuple[OwnBackground, ...]:
        """Judge by the shipped backgrounds again. Raises RegistryError."""
        self._keep_backgrounds(())
        return ()

    def _keep_backgrounds(self, found: tuple[OwnBackground, ...]) -> None:
        with self.store.batch():
            self.store.backgrounds.replace(found, self.store.count())
        self.backgrounds = self.store.backgrounds.used()

    def examine(self, *, repair: bool = False) -> Sequence[Finding]:
        """Check everything; with `repair`, make anew what is derived."""
        from modelkin_registry import doctor

        return doctor.examine(self.store, self.index, repair=repair, vectors_of=rows_of)


def _record(name: str, fingerprint: Fingerprint, **told: Any) -> NewModel:
    """A fingerprint as it is stored, with what is told of where it comes from."""
    about = fingerprint.about
    return NewModel(
        name=name,
        content=content_digest(fingerprint),
        level=about.level,
        spec=about.spec,
        key=about.key,
        parameters=about.parameters,
        bytes_total=about.bytes_total,
        coverage=about.coverage,
        about=asdict(about),
        blob=fingerprint.to_bytes(),
        config=about.config or {},
        **told,
    )
