"""What comes of registries that are given away and taken in, and of a Hub that is followed."""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_registry.answers.plain import CONTRACT, Plain

STATUSES = ("added", "merged", "unchanged")


class Exported(Plain, frozen=True):
    """A registry as one file."""

    file: str
    models: int
    bytes: int
    digest: str
    contract: int = CONTRACT


class Pushed(Plain, frozen=True):
    """The same as a commit of a dataset on the Hub."""

    dataset: str
    commit: str
    models: int
    bytes: int
    digest: str
    contract: int = CONTRACT


class TakenIn(Plain, frozen=True):
    """What became of one model: `status` is "added", "merged" (new revisions of its sender's) or "unchanged"; `name` is its name here."""

    given: str
    name: str
    status: str


class StoredAs(Plain, frozen=True):
    """A model of a shared file that has another name here."""

    model: str
    stored_as: str


class Imported(Plain, frozen=True):
    """A shared file taken in: how many of its models were new here, had something new, or had nothing; and which have other names here."""

    file: str
    models: int
    added: int
    merged: int
    unchanged: int
    renamed: tuple[StoredAs, ...]
    digest: str
    contract: int = CONTRACT

    @classmethod
    def of(cls, file: str, taken: Sequence[TakenIn], digest: str) -> Imported:
        """The sum of what became of each model."""
        added, merged, unchanged = (sum(one.status == status for one in taken) for status in STATUSES)
        renamed = tuple(StoredAs(one.given, one.name) for one in taken if one.name != one.given)
        return cls(file, len(taken), added, merged, unchanged, renamed, digest)


class Synced(Plain, frozen=True):
    """What came of one repository. `status`: added, unchanged, failed, renamed, gone; of a dry run: wanted; of a recipe: pinned."""

    repo: str
    status: str
    reason: str | None = None
    model: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    contract: int = CONTRACT


class Syncing(Plain, frozen=True):
    """What came of all repositories of one call, in the order in which they were done. `bytes` were read, or would be."""

    results: tuple[Synced, ...]
    bytes: int
    contract: int = CONTRACT


class JournalEntry(Plain, frozen=True):
    """What was done with one repository of the Hub, or why not, as the registry's table `hub_repo` holds it.

    `state`: "waiting", "done", "failed" or "gone"; `tries` so far, and whether the last failure may pass; `revision`, `modified`: its
    commit and the time of that; `content`: digest of its files; `bytes` were read; `model`: the number of the stored model; `noted`,
    `seen`: when this was noted, and when a listing last had it. Of what waits: `holder`, the worker that has it until then (`until`);
    `not_before`, when it is tried again; `leases`, how many workers have had it.
    """

    repo: str
    hub_id: str
    revision: str
    modified: str
    level: str
    selection: str
    state: str
    reason: str
    tries: int
    passing: int
    content: str
    bytes: int
    model: int | None
    noted: str
    seen: str
    holder: str = ""
    until: str = ""
    not_before: str = ""
    leases: int = 0
    contract: int = CONTRACT


class Journal(Plain, frozen=True):
    """What was done with which repository of the Hub, by name."""

    entries: tuple[JournalEntry, ...]
    contract: int = CONTRACT
