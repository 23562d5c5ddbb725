"""Which repositories a sync is about."""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec import Struct, to_builtins

from modelkin_indexer.hub.client import HubClient
from modelkin_indexer.hub.described import Repo, Unreadable


class Wanted(Struct, frozen=True):
    """A filter: all that is given must hold. `ids` names repositories one by one; `max_bytes` bounds what is read of one.

    `recipe` is the name of the list that has the ids, which stands for them in the journal.
    """

    author: str | None = None
    task: str | None = None
    library: str | None = None
    min_downloads: int = 0
    max_bytes: int | None = None
    ids: tuple[str, ...] = ()
    recipe: str = ""

    @property
    def selection(self) -> str:
        """The filter in words, by which the journal knows it. Without those fields that say nothing."""
        said = {name: value for name, value in to_builtins(self).items() if value and not (name == "ids" and self.recipe)}
        return json.dumps(said, sort_keys=True)

    @property
    def by_downloads(self) -> bool:
        """Whether repositories come by downloads, which change without a commit; else the last modified ones come first."""
        return self.min_downloads > 0

    def listed(self, client: HubClient, newest: str) -> Iterator[Repo | Unreadable]:
        """The repositories of the filter, back to those last modified at `newest`; entries that are none, by name. Raises HubError."""
        sort = "downloads" if self.by_downloads else "lastModified"
        for repo in client.repos(author=self.author, pipeline_tag=self.task, filter=self.library, sort=sort, direction=-1):
            if isinstance(repo, Unreadable):
                yield repo
                continue
            if repo.downloads < self.min_downloads or (not self.by_downloads and repo.modified < newest):
                return
            yield repo
