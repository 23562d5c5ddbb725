"""What the rest of the registry needs of a store. All SQL lies behind it; another engine means another folder beside `sqlite`.

Models have names; their revisions have the numbers by which they are searched. The newest revision of a model is its current one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from modelkin_indexer.results.beside import Claim, SourceFile, StructurePart
    from modelkin_registry.answers.asked import Calibrated
    from modelkin_registry.answers.shared import JournalEntry
    from modelkin_registry.answers.upkeep import ListedModel, OwnBackground
    from modelkin_registry.evidence.judge import Strangers
    from modelkin_registry.store.address import Place
    from modelkin_registry.store.filters import Where
    from modelkin_registry.store.records import (
        Change,
        Facets,
        KeptFingerprint,
        KeptStructure,
        Leased,
        Lent,
        NewModel,
        PutResult,
        Queued,
        Stored,
        StoredModel,
        VectorRecord,
    )
    from modelkin_registry.store.rows import Array, IndexRows, TableRows


class Vectors(Protocol):
    """Rows to search by, one record a revision, kind and component. Derived from fingerprints, source of the index."""

    def kinds(self) -> dict[str, int]:
        """Every kind ever stored and its numbers a row."""

    def component_code(self, name: str) -> int:
        """The number that stands for a component in TableRows of this store."""

    def component_names(self) -> Array:
        """Names by code."""

    def of(self, revision: int) -> list[VectorRecord]:
        """A revision's records, by kind and component."""

    def batches(self, kind: str, dims: int, *, since: int = 0) -> Iterator[TableRows]:
        """Rows of one kind, by revision and component: of all of them, or of those changed after change number `since`.

        Raises:
            RegistryError: rows that are not what was stored.
        """


class Claims(Protocol):
    """What is said of the models, apart from what weights show."""

    def note_now(self, model: int, claims: Iterable[Claim]) -> None:
        """What is said of a model at present."""

    def of_model(self, model: int) -> list[dict[str, Any]]:
        """Everything ever said of a model; `current` is False where the same file was read again and says it no longer."""

    def current(self) -> dict[str, list[Claim]]:
        """What is said of each model now, by its name."""

    def aliases(self, texts: Sequence[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """Every name, former ones too, with the present one: of what was read here, and of imported models.

        With `texts`, in small letters, those that have one of them in their names at least, in letters of either case.
        """


class Labels(Protocol):
    """The maintainers' own words on models. They stay with the model, whatever it is called and whatever its weights become."""

    def tag(self, model: int, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Give a model tags, and take others from it. Raises RegistryError for what can be no tag; one that is not there is no error."""

    def note(self, model: int, text: str) -> None:
        """Put this note on a model in the place of the one that it had; "" takes it away. Raises RegistryError if it is too long."""

    def tags(self, models: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """The tags of those models that have any, by name."""

    def notes(self, models: Iterable[int]) -> dict[int, str]:
        """The notes of those models that have one."""


class Structures(Protocol):
    """What lies beside the weights: vocabularies, code, licences."""

    def of_model(self, model: int) -> list[StructurePart]:
        """What lay beside its weights when they were looked at last."""

    def kept(self, model: int) -> list[KeptStructure]:
        """Everything that ever lay there, by kind, name and time."""

    def elsewhere(self, hashes: npt.NDArray[np.uint64], model: int) -> npt.NDArray[np.int64]:
        """In the code of how many other models each shingle is, (n,)."""


class Backgrounds(Protocol):
    """What `modelkin calibrate` measured."""

    def replace(self, found: Sequence[OwnBackground], models: int) -> None:
        """Keep these and no others; none bring back the shipped defaults. `models`: how many the registry had."""

    def used(self) -> Strangers:
        """(family, channel) -> spread between strangers, where it replaces the shipped default."""

    def told(self) -> Calibrated | None:
        """What an answer says of them: families measured and in use, on how many models, and when. None if never measured."""


class Journal(Protocol):
    """Which Hub repositories are known, what was done with each, what failed and why; and the queue of `modelkin sync`."""

    def newest(self, selection: str) -> str:
        """When the newest repository of a selection's last whole listing was modified, "" if none was listed to its end."""

    def note_newest(self, selection: str, newest: str) -> None:
        """A listing has ended; the next one need go back only to here."""

    def enqueue(self, found: Iterable[Queued], selection: str) -> int:
        """Put listed repositories into the queue, those that changed or are new. Returns how many."""

    def is_news(self, one: Queued) -> bool:
        """Whether a listed repository would be put into the queue: it is new, changed, or waiting there."""

    def try_again(self, selection: str, every: bool) -> int:
        """Put back what failed: where it may pass and was not tried too often, or `every` one. Returns how many."""

    def waiting(self, selection: str, batch: int = 256) -> Iterator[Queued]:
        """The queue, oldest change first, without what workers hold. What is noted meanwhile does not disturb it."""

    def count(self, selection: str) -> dict[str, int]:
        """How many repositories of a selection are in each state."""

    def note(
        self, repo: str, state: str, *, reason: str = "", model: int | None = None, content: str = "", size: int = 0, passing: bool = False
    ) -> None:
        """What came of a repository. `passing`: a failure that may not come again."""

    def former_name(self, hub_id: str, repo: str) -> str | None:
        """The name that a repository had when its model was stored, if it has another one now."""

    def rename(self, old: str, new: Queued, selection: str) -> None:
        """A repository has another name now: its former row stays and says so, the new one has what was done."""

    def revisions_of(self, content: str) -> list[tuple[int, str]]:
        """Current revisions of models whose repository's files were the same byte for byte when last read, each with that repository."""

    def unseen_since(self, selection: str, began: str) -> list[str]:
        """Repositories with a model that no listing has shown since then."""

    def see(self, repos: Iterable[str]) -> None:
        """A listing has these now."""

    def entries(self) -> Iterator[JournalEntry]:
        """The whole journal, by repository."""


class Leases(Protocol):
    """Which worker has which repository of the journal that waits. One has it at a time, and for as long as it is heard of."""

    def take(self, holder: str, seconds: float, count: int = 1) -> list[Leased]:
        """Lend the oldest waiting jobs to a worker, for so long. A job with which too many workers died is set aside first."""

    def keep(self, holder: str, seconds: float) -> int:
        """Let a worker have what it holds for so long from now. Returns how many jobs it holds."""

    def holds(self, holder: str, repo: str) -> bool:
        """Whether the job is still this worker's. Asked in the transaction that stores what came of it."""

    def give_back(self, holder: str) -> int:
        """A worker stops: what it holds may be taken at once, and is not counted as tried. Returns how many jobs."""

    def lapse(self, holder: str) -> int:
        """A worker is known to be dead: what it held may be taken at once. Returns how many jobs."""

    def later(self, repo: str, seconds: float, reason: str) -> None:
        """A failure that may pass: the job waits for so long before it is lent again."""

    def lent(self) -> Lent:
        """How many jobs there are, how many of them are held, and how many wait for their time."""


class Kinships(Protocol):
    """What pairs of fingerprints showed for a tree. Derived: what is missing or damaged is worked out again."""

    def told(self, judge: str, fingerprints: Iterable[int]) -> dict[tuple[int, int], str]:
        """What is kept of pairs whose first is one of these, as this judge has them."""

    def keep(self, judge: str, pairs: Iterable[tuple[int, int, str]]) -> bool:
        """Keep what pairs showed, in the place of what another judge made of them; False, and nothing is done, where others write."""


class Inspection(Protocol):
    """The store looked at as a whole. Each method raises RegistryError where it cannot be looked at."""

    def damage(self) -> Iterator[str]:
        """What is wrong with the file as the engine sees it."""

    def lost_references(self) -> Iterator[str]:
        """Rows that refer to rows which are not there."""

    def orphans(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Things without what belongs to them: what they are, and their names or numbers."""

    def facets(self, revision: int) -> Facets | None:
        """What a revision is chosen by, as it is stored; None where it has none."""

    def sizes(self) -> list[Stored]:
        """What the rows of each kind take, the largest first."""

    def size(self) -> int:
        """Bytes of the whole registry on the engine's disk."""

    def fingerprints(self) -> Iterator[KeptFingerprint]:
        """Every stored fingerprint with its bytes."""


class Tables(Protocol):
    """All tables as they are, for a copy. Inside a transaction of the store."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def is_empty(self) -> bool:
        """Whether nothing was ever put into this registry."""

    def count(self, table: str) -> int:
        """How many rows a table has."""

    def rows(self, table: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table in a fixed order, the same for every engine."""

    def fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> int:
        """Make these the rows of a table of an empty registry. Returns how many."""

    def numbers(self) -> Mapping[str, int]:
        """The last number that was given in each table, to a row that may be gone."""

    def go_on_from(self, numbers: Mapping[str, int]) -> None:
        """Give the next rows the numbers after these."""


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
