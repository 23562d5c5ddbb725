"""What the rest of the registry needs of a store. All SQL lies behind it; another engine means another folder beside `sqlite`.

Models have names; their revisions have the numbers by which they are searched. The newest revision of a model is its current one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from modelkin_indexer.results.beside import SourceFile
    from modelkin_registry.answers.upkeep import ListedModel
    from modelkin_registry.store.address import Place
    from modelkin_registry.store.filters import Where
    from modelkin_registry.store.records import Change, NewModel, PutResult, StoredModel
    from modelkin_registry.store.rows import IndexRows
    from modelkin_registry.store.sections.beside import Backgrounds, Claims, Kinships, Labels, Structures, Vectors
    from modelkin_registry.store.sections.queue import Journal, Leases
    from modelkin_registry.store.sections.upkeep import Inspection, Tables


class Store(Protocol):
    """An open registry. Use from the thread that opened it; other threads and processes open their own.

    `name` stands for it in messages; what is derived from it lies in files beside `path`, on this machine. `place` is what opens it again.
    """

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> Place: ...

    @property
    def path(self) -> Path: ...
    @property
    def registry_id(self) -> str: ...
    @property
    def key_name(self) -> str: ...
    @property
    def created(self) -> str: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def may_be_indexed(self) -> bool: ...
    @property
    def in_transaction(self) -> bool: ...
    @property
    def vectors(self) -> Vectors: ...
    @property
    def claims(self) -> Claims: ...
    @property
    def labels(self) -> Labels: ...
    @property
    def structure(self) -> Structures: ...
    @property
    def backgrounds(self) -> Backgrounds: ...
    @property
    def hub(self) -> Journal: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def kinship(self) -> Kinships: ...
    @property
    def inspection(self) -> Inspection: ...
    @property
    def tables(self) -> Tables: ...

    def written_to(self, path: Path) -> bool:
        """Write the registry's file as it is at this moment to another place; False, and nothing is done, where it is no file.

        Raises RegistryError.
        """

    def close(self) -> None:
        """Let go of it. A second close does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    # transactions

    def batch(self) -> AbstractContextManager[None]:
        """One write transaction, whole or not at all; inside another one a part that can fail alone. Raises RegistryError."""

    def reading(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment."""

    def alone(self, what: str) -> AbstractContextManager[bool]:
        """Whether nothing else, on whatever machine, does this with the registry meanwhile; however this process ends, it is let go."""

    # writing

    def put(self, record: NewModel, vectors: Sequence[IndexRows] = (), *, unrelated: bool = False, replace: bool = False) -> PutResult:
        """Store one observation, whole or not at all.

        Same content and level as the newest revision: unchanged. Other content: a new revision, the current one from now on; older ones are
        searched too. Another level of the same content: one more fingerprint of that revision; `full` is searched rather than `probe`.

        A name that an imported model has is given to what was read here; the imported one is kept under `name#digits`.

        Args:
            unrelated: the weights have nothing to do with those of the model which has the name.
            replace: in that case, keep that model as `name@digits`, and give the name to this one.

        Raises:
            NameTaken: `unrelated`, and not `replace`; or an imported model that would take the name of another one.
            RegistryError: another spec or key, a name that cannot be printed, or trouble with the store.
            ValueError: rows that are not unit vectors, or of another size than the registry's rows of that kind.
        """

    def renew(self, revision: int, record: NewModel, vectors: Sequence[IndexRows]) -> None:
        """Put this fingerprint of the same weights in the place of a revision's outdated ones."""

    def repair_vectors(self, revision: int, fingerprint: int, vectors: Sequence[IndexRows]) -> None:
        """Make a revision's search rows anew, unless another fingerprint stands for it by now. The truth is not touched."""

    def remove(self, name: str) -> None:
        """Forget a model, or one revision where `name` is `model@digits`, and everything known of it. Raises UnknownModel."""

    def rename(self, old: str, new: str) -> None:
        """Give a model another name; the old one keeps resolving. Raises UnknownModel, RegistryError if `new` is taken."""

    # reading

    def __contains__(self, name: str) -> bool:
        """Whether a model has or had this name, or one of its revisions has it."""

    def find(self, name: str) -> int | None:
        """The number of the model that has or had this name, or whose revision has it."""

    def name_of(self, model: int) -> str:
        """A model's present name."""

    def count(self) -> int:
        """Number of models."""

    def count_revisions(self) -> int:
        """Number of revisions that are searched: all but outdated ones."""

    def names(self) -> list[str]:
        """All models' names, sorted; former names and revisions left out."""

    def numbers(self, *, current: bool = False) -> list[int]:
        """The numbers of all revisions that are searched, or of the `current` ones of them alone, ascending."""

    def outdated(self) -> list[int]:
        """The numbers of revisions whose fingerprints are of another spec, which are not searched, ascending."""

    def current_of(self, names: Iterable[str]) -> list[int]:
        """Numbers of the current revisions of the models that have these present names, ascending; outdated ones are left out."""

    def revisions_of(self, model: int) -> list[int]:
        """Numbers of a model's revisions, oldest first."""

    def newest_of(self, models: Iterable[int]) -> dict[int, int]:
        """The number of each model's current revision, by model; removed ones are left out, and those whose current one is outdated."""

    def standing(self, revisions: Iterable[int]) -> dict[int, int]:
        """The number of the fingerprint that stands for each of these revisions; removed ones are left out."""

    def names_of(self, revisions: Iterable[int]) -> dict[int, str]:
        """Names by number; numbers of removed ones are left out."""

    def models_of(self, revisions: Iterable[int]) -> dict[int, int]:
        """The models that revisions are of, by number; numbers of removed ones are left out."""

    def get(self, name: str) -> StoredModel:
        """The fingerprint that stands for a model or a revision, by its name. Raises UnknownModel, RegistryError if damaged."""

    def stored(self, revisions: Iterable[int]) -> dict[int, StoredModel]:
        """The fingerprints that stand for these revisions; removed ones are left out. Raises RegistryError if one is damaged."""

    def blob(self, digest: str) -> bytes:
        """A fingerprint's bytes by their digest. Raises RegistryError if there are none, or damaged ones."""

    def senders(self) -> dict[str, str]:
        """The imported models, by present name, each with the file that brought it."""

    def matching(self, conditions: Where, *, current: bool = False) -> list[int]:
        """The numbers of all revisions that are searched and meet the conditions, or of the `current` ones of them alone, ascending."""

    def count_matching(self, conditions: Where) -> int:
        """Number of models whose current revisions meet the conditions, outdated ones too."""

    def listed(
        self,
        conditions: Where = (),
        *,
        sort: str = "name",
        reverse: bool = False,
        first: str = "",
        start: int = 0,
        limit: int | None = None,
    ) -> list[ListedModel]:
        """One line a model whose current revision meets the conditions; texts from A, numbers and dates from the largest.

        `first`: models of this name come before all others, then those whose names begin so. `start`: how many to pass over, where there
        is a limit.
        """

    def lines(self, revisions: Sequence[int]) -> list[ListedModel]:
        """A line for each of these revisions, in their order; removed ones are left out."""

    def summed(self, conditions: Where = ()) -> list[dict[str, Any]]:
        """How many models meet the conditions, by level, family, whether they are adapters, whether they were imported.

        A row has `level`, `family`, `is_adapter`, `is_imported`; `models`, all `revisions` of theirs, `parameters` (all together),
        `unknown` (models without them).
        """

    def authors(self, most: int) -> dict[str, int]:
        """The authors with the most models, and how many each has: what stands before the first slash of names that have one."""

    def components(self) -> dict[str, int]:
        """How many models have each component, the most frequent first."""

    def newest(self) -> str | None:
        """When the last model came; None without any."""

    def tags_used(self, conditions: Where = ()) -> dict[str, int]:
        """Every tag that any of the models has that meet the conditions, and how many have it; by name."""

    def contents(self, among: Collection[str] | None = None) -> dict[int, str]:
        """The digest of the weights of each revision that is searched, by number: of all, or of those with one `among` these."""

    def in_part(self, revisions: Iterable[int]) -> set[int]:
        """Those of these revisions that were read only in part: nothing is known of the rest, whatever their digests."""

    def twins(self, revision: int) -> list[str]:
        """The revisions of other models that have the same content, by name; of what was read only in part nothing is known."""

    def show(self, name: str) -> dict[str, Any]:
        """Everything known of a model except vectors: revisions with their fingerprints and sources, claims, former names. Newest first.

        Of `model@digits` that revision alone. Raises UnknownModel.
        """

    def models_of_files(self, files: Sequence[SourceFile]) -> list[int]:
        """Revisions that were read here from files of these names, sizes and digests. Those without digests are never the same."""

    # the change log

    def generation(self) -> int:
        """Number of the last change, 0 in a new registry."""

    def changes(self, after: int = 0) -> list[Change]:
        """What happened since change number `after`, in order."""

    def changed(self, after: int) -> list[int]:
        """Revisions whose search rows may differ since change number `after`, removed ones too; ascending."""
