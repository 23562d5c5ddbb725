"""What keeping a store in order needs of it: what is damaged or left over, sizes, and its rows as they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modelkin_registry.store.records import Facets, KeptFingerprint, Stored


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
