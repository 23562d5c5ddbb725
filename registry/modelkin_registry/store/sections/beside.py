"""What a store keeps of its models beside their fingerprints: vectors to search by, claims, labels, structure, backgrounds, kinships."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from modelkin_indexer.results.beside import Claim, StructurePart
    from modelkin_registry.answers.asked import Calibrated
    from modelkin_registry.answers.upkeep import OwnBackground
    from modelkin_registry.evidence.judge import Strangers
    from modelkin_registry.store.records import KeptStructure, VectorRecord
    from modelkin_registry.store.rows import Array, TableRows


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


class Kinships(Protocol):
    """What pairs of fingerprints showed for a tree. Derived: what is missing or damaged is worked out again."""

    def told(self, judge: str, fingerprints: Iterable[int]) -> dict[tuple[int, int], str]:
        """What is kept of pairs whose first is one of these, as this judge has them."""

    def keep(self, judge: str, pairs: Iterable[tuple[int, int, str]]) -> bool:
        """Keep what pairs showed, in the place of what another judge made of them; False, and nothing is done, where others write."""
