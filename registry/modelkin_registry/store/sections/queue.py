"""What a store knows of the Hub's repositories: which wait, which worker holds which, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from modelkin_registry.answers.shared import JournalEntry
    from modelkin_registry.store.records import Leased, Lent, Queued


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
