"""The face of a registry: open it, add fingerprints, ask."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from modelkin_indexer import spec
from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import SHOWN
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.address import place_of
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.digests import content_digest
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.records import NewModel, PutResult

if TYPE_CHECKING:
    from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer
    from modelkin_registry.answers.claims import StructureBeside, WeighedClaim
    from modelkin_registry.answers.shared import TakenIn
    from modelkin_registry.answers.trajectory import TrajectoryAnswer
    from modelkin_registry.answers.tree import TreeAnswer
    from modelkin_registry.answers.upkeep import Finding, ListedModel, OwnBackground
    from modelkin_registry.asking import Asking
    from modelkin_registry.search.known import Known


class Registry:
    """An open registry. Use from the thread that opened it; several processes may have the same one open.

    >>> with Registry.open(path) as registry:  # doctest: +SKIP
    ...     answer = registry.query(fingerprint)
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = VectorIndex.open(store)
        self.backgrounds = store.backgrounds.used()

    @cached_property
    def known(self) -> Known:
        """The models as fingerprints, and what is held against what."""
        from modelkin_registry.search.known import Known  # brings the evidence, which takes longer to import than most else is done in

        return Known(self.store, self.index)

    @cached_property
    def _asking(self) -> Asking:
        from modelkin_registry.asking import Asking

        return Asking(self.store, self.index, self.known, self.judge)

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
        from modelkin_registry.search.candidates import index_rows

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
        from modelkin_registry.search.candidates import index_rows
        from modelkin_registry.search.known import same_weights

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
        from modelkin_registry.asking import Asked

        return self._asking.query(fingerprint, Asked(source, k, show_all, exact, claims, structure, tensors, besides, among))

    def weighed_claims(self, name: str) -> tuple[WeighedClaim, ...]:
        """What a registered model claims to be made from, beside what the weights show of it; nothing of an outdated fingerprint.

        Raises UnknownModel.
        """
        return self._asking.weighed_claims(name)

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
        return self._asking.structure_beside(fingerprint, structure, name)

    def structure_of(self, name: str) -> list[StructurePart]:
        """The present structure of a registered model. Raises UnknownModel."""
        return self.store.structure.of_model(self.store.get(name).model_id)

    def claims_of(self, name: str) -> list[Claim]:
        """What is said of a registered model now. Raises UnknownModel."""
        return self._asking.claims_of(name)

    def decompose(
        self, fingerprint: Fingerprint, parents: Sequence[str] | None = None, *, base: str | None = None, source: str = ""
    ) -> DecomposeAnswer:
        """Which registered models, in which proportion, a merge was made of. `parents` names them; without, they are sought.

        Raises:
            FingerprintError: made with another key or spec than the registry's.
            UnknownModel: a parent or base that is not registered.
        """
        return self._asking.decompose(fingerprint, parents, base, source)

    def judge(self, searched: int) -> Judge:
        """What this registry judges by, for an answer that looks at so many models."""
        return Judge(searched, self.backgrounds, {})

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
            models = 1 << (self.store.count() - 1).bit_length()  # the next power of two, so that pairs stay judged while models come
            answer, pairs = family_tree(self.known, self.judge(models), model, depth, say)
        pairs.keep()
        return answer

    def trajectory(self, names: Sequence[str], series: Sequence[Fingerprint]) -> TrajectoryAnswer:
        """Examine checkpoints said to lead from a random start to the last one, the registry beside them. Raises FingerprintError."""
        from modelkin_registry.answers.relations import is_descent
        from modelkin_registry.answers.trajectory import Resemblance
        from modelkin_registry.trajectories.trajectories import examine_series, mean_r

        found = []
        for step, fingerprint in enumerate(series):
            relatives = self.query(fingerprint, source=names[step], k=1).relatives
            found += [Resemblance(step, one.model, one.relation, mean_r(one)) for one in relatives if is_descent(one)]
        return examine_series(names, series, self.judge(1), found)

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
        from modelkin_registry.search.known import read

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
        from modelkin_registry.search.known import rows_of

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
