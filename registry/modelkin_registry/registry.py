"""The face of a registry: open it, add fingerprints, ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from msgspec import to_builtins

from modelkin_indexer import spec
from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.questions import Questions
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.store.address import place_of
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.digests import content_digest
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.records import NewModel, PutResult

if TYPE_CHECKING:
    from modelkin_registry.answers.claims import WeighedClaim
    from modelkin_registry.answers.shared import TakenIn
    from modelkin_registry.answers.tree import TreeAnswer
    from modelkin_registry.answers.upkeep import Finding, ListedModel, OwnBackground
    from modelkin_registry.search.known import Known
    from modelkin_registry.store.protocol import Store


class Registry(Questions):
    """An open registry. Use from the thread that opened it; several processes may have the same one open.

    >>> with Registry.open(path) as registry:  # doctest: +SKIP
    ...     answer = registry.query(fingerprint)
    """

    store: Store
    index: VectorIndex

    def __init__(self, store: Store) -> None:
        super().__init__(store, VectorIndex.open(store), store.backgrounds.used(), [store.place])

    @cached_property
    def known(self) -> Known[Store]:
        """The models as fingerprints, and what is held against what."""
        from modelkin_registry.search.known import Known  # brings the evidence, which takes longer to import than most else is done in

        return Known(self.store, self.index)

    @classmethod
    def open(cls, place: str | Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Self:
        """Open the registry in this file, or at this address of PostgreSQL. Raises RegistryError."""
        return cls(open_store(place_of(place), create=create, key_name=key_name))

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

    def all_weighed_claims(self) -> dict[str, tuple[WeighedClaim, ...]]:
        """`weighed_claims` of every model that names another registered one, by its name; the pairs are looked at all at once."""
        from modelkin_registry.batches.claims import weighed_claims

        with self.store.reading():
            found = weighed_claims(self.known, self.judge(self.store.count_revisions()))
            # adapters, which hold no weights of their bases, are fitted to them one by one
            alone = [name for name, claims in found.items() if any(one.verdict == "not comparable" for one in claims)]
            return found | {name: self.weighed_claims(name) for name in alone}

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
        about=to_builtins(about),
        blob=fingerprint.to_bytes(),
        config=about.config or {},
        **told,
    )
