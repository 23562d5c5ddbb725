"""A Hub's repositories into a registry: listed into the journal's queue, and done from there, each with its note in one transaction."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from modelkin.sources.hub_reading import UNFORESEEN, Brought, bring_model, hub_size
from modelkin.sources.network import hub_client, is_offline
from modelkin.sources.reading import DEFAULT_LEVEL
from modelkin.taking.at_once import at_once
from modelkin.taking.pinning import expected, pinned
from modelkin.taking.recipes import MAIN, Recipe, read_recipe
from modelkin.taking.storing import store_brought
from modelkin.wishes import HowToRead, Listener, SyncOptions, how_to_read
from modelkin_indexer.errors import RegistryError, SourceError
from modelkin_indexer.hub.claims import SAYS
from modelkin_indexer.hub.client import HubClient
from modelkin_indexer.hub.described import Repo, Unreadable
from modelkin_indexer.hub.errors import HubError
from modelkin_indexer.hub.wanted import Wanted
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.spec import Key
from modelkin_registry.answers.shared import Synced, Syncing
from modelkin_registry.registry import Registry
from modelkin_registry.store.records import Queued
from modelkin_registry.store.times import now

WORKERS = 4  # repositories read at once unless told otherwise
LISTED_AT_ONCE = 256  # repositories noted in one transaction
FAILURES_IN_A_ROW = 20  # passing failures after which the Hub is taken to be down, so that no repository uses up its tries
GONE_SAYS = Claim("hub_status", "removed or made private", SAYS)


class Sync:
    """One call of `sync` on an open registry."""

    def __init__(
        self,
        registry: Registry,
        client: HubClient,
        wanted: Wanted,
        how: HowToRead,
        workers: int,
        *,
        tells_news: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        self.registry, self.client, self.wanted, self.how, self.workers = registry, client, wanted, how, workers
        self.store, self.journal, self.selection = registry.store, registry.store.hub, wanted.selection
        self.tells_news, self.entries = tells_news, recipe.by_repo if recipe else {}

    # the queue

    def look(self, *, everything: bool = False) -> Iterator[Synced]:
        """List what is new or changed into the queue. `everything` lists all, and finds what was removed or renamed. Raises HubError."""
        newest = "" if everything else self.journal.newest(self.selection)
        began, latest = now(), newest
        if self.wanted.ids:
            yield from self._look_at_ids()
            return
        found = self.wanted.listed(self.client, newest)
        while repos := list(islice(found, LISTED_AT_ONCE)):
            listed = [repo for repo in repos if isinstance(repo, Repo)]
            latest = max([latest, *(repo.modified for repo in listed)])
            yield from self._take_note(listed)
            yield from (_unreadable(one) for one in repos if isinstance(one, Unreadable))
        with self.store.batch():
            self.journal.note_newest(
                self.selection, "" if self.wanted.by_downloads else min(latest, began)
            )  # a time to come would hide all
        if everything:
            yield from self._missing(began)

    def _take_note(self, repos: list[Repo], asked: str = "") -> Iterator[Synced]:
        """Put repositories into the queue. `asked`: the name by which a single one was asked for, which it may have no more."""
        renamed = []
        queued = [self._queued(repo, asked) for repo in repos]
        news = [one.repo for one in queued if self.tells_news and self.journal.is_news(one)]
        with self.store.batch():
            for repo in repos:
                if (former := self.journal.former_name(repo.hub_id, repo.name)) is not None:
                    renamed.append(self._rename(former, repo))
            self.journal.enqueue(queued, self.selection)
            self.journal.see(repo.name for repo in repos)
        yield from renamed
        yield from (Synced(name, "waiting") for name in news)

    def _look_at_ids(self) -> Iterator[Synced]:
        for name, found in at_once(self.workers, self._described, self.wanted.ids):
            if isinstance(found, Repo):
                yield from self._take_note([found], name)
            else:
                yield self._absent(name, found)

    def _described(self, name: str) -> Repo | HubError:
        """Without its files: many of these wait at once."""
        try:
            return replace(self.client.repo(name, self.revision(name)), files=())
        except HubError as error:
            error.__cause__ = error.__context__ = None  # the frames behind it hold the answer that was refused
            return error.with_traceback(None)

    def _absent(self, name: str, error: HubError) -> Synced:
        """A named repository that the Hub does not show: one that was stored stays, and says so."""
        with self.store.batch():
            model = self.store.find(name)
            if error.gone and model is not None:
                self.journal.note(name, "gone", reason=str(error))
                self.store.claims.note_now(model, [GONE_SAYS])
                return Synced(name, "gone", str(error), self.store.name_of(model))
            self.journal.enqueue([Queued(name, "", "", "", self.level(name))], self.selection)
            self.journal.note(name, "failed", reason=str(error), passing=error.passing or error.gone)
            return Synced(name, "failed", str(error))

    def _rename(self, former: str, repo: Repo) -> Synced:
        """The model takes the new name, and the old one leads to it."""
        self.journal.rename(former, self._queued(repo), self.selection)
        if former in self.store and repo.name not in self.store:
            self.registry.rename(former, repo.name)
        return Synced(repo.name, "renamed", f"was {former}", repo.name)

    def _missing(self, began: str) -> Iterator[Synced]:
        """Repositories that were stored and are listed no longer: each is asked for once."""
        for name, found in at_once(self.workers, self._described, self.journal.unseen_since(self.selection, began)):
            if isinstance(found, HubError):
                if found.gone:
                    yield self._absent(name, found)
            elif found.name != name:
                with self.store.batch():
                    renamed = self._rename(name, found)
                yield renamed

    def _queued(self, repo: Repo, asked: str = "") -> Queued:
        return Queued(repo.name, repo.hub_id, repo.commit, repo.modified, self.level(asked or repo.name))

    def level(self, name: str) -> str:
        """The level at which a repository is read: the call's own, else that of its recipe."""
        return self.how.level or (self.entries[name].level if name in self.entries else DEFAULT_LEVEL)

    def revision(self, name: str) -> str | None:
        """The revision that a recipe wants of a repository; None for its newest commit."""
        entry = self.entries.get(name)
        return None if entry is None or entry.revision == MAIN else entry.revision

    def try_again(self, every: bool) -> None:
        """Put failures back into the queue, those that may pass or all of them."""
        with self.store.batch():
            self.journal.try_again(self.selection, every)

    # the work

    def work(self, limit: int | None = None) -> Iterator[Synced]:
        """Do what waits, oldest change first, whatever becomes of single repositories. Raises HubError where the Hub seems to be down."""
        failures = 0
        with _beside(self.store.path.resolve()) as folder:
            waiting = islice(self.journal.waiting(self.selection), limit)
            for queued, brought in at_once(self.workers, partial(self._brought, Path(folder)), waiting):
                failures = failures + 1 if brought.passing else 0
                if failures == FAILURES_IN_A_ROW:
                    raise HubError(
                        f"failed {failures} times in a row, the last time: {brought.reason}",
                        path=self.client.endpoint,
                        remedy="What is left waits for the next `modelkin sync`.",
                    )
                yield store_brought(self.registry, queued, brought)

    def _brought(self, folder: Path, queued: Queued) -> Brought:
        """One repository read, at the level that a recipe wants of it unless the call says another one."""
        how = replace(self.how, level=self.how.level or queued.level) if self.entries else self.how
        return bring_model(self.client, queued, self.wanted.max_bytes, how, self.store.place, folder)

    def sizes(self) -> Iterator[Synced]:
        """Of everything that a sync would take in, the bytes that it would read. Writes nothing. Raises HubError."""
        for name, size in at_once(self.workers, self._size, self._wanted_now()):
            yield size if isinstance(size, Synced) else Synced(str(name), "wanted", None, None, size)

    def _wanted_now(self) -> Iterator[str | Unreadable]:
        """Names of what is new; what cannot be read of the list."""
        if self.wanted.ids:
            for name in self.wanted.ids:
                repo = self._described(name)
                if isinstance(repo, HubError):
                    yield Unreadable(name, str(repo))
                elif self.journal.is_news(self._queued(repo, name)):
                    yield name if self.entries else repo.name
            return
        for found in self.wanted.listed(self.client, self.journal.newest(self.selection)):
            if isinstance(found, Unreadable):
                yield found
            elif self.journal.is_news(self._queued(found)):
                yield found.name

    def _size(self, name: str | Unreadable) -> int | Synced:
        if isinstance(name, Unreadable):
            return _unreadable(name)
        try:
            return hub_size(self.client, name, replace(self.how, level=self.level(name)), self.revision(name))
        except SourceError as error:
            return Synced(name, "failed", str(error))
        except UNFORESEEN as error:
            return Synced(name, "failed", f"{name}: cannot be read ({type(error).__name__}: {error})")


def _unreadable(one: Unreadable) -> Synced:
    return Synced(one.name, "failed", one.reason)


def synced(
    registry: Registry, ids: Sequence[str], wishes: SyncOptions, key: Key, offline: bool, listener: Listener, each: Callable[[Synced], None]
) -> Syncing:
    """One whole call: what is wanted, asked of the Hub and done (or sized, in a dry run), and what came of it.

    Raises:
        ValueError: nothing says which repositories are wanted, or two things do.
        WrongLine: a recipe has a mistake, or cannot be read or written.
    """
    recipe = _recipe(ids, wishes)
    wanted = Wanted(
        wishes.get("author"),
        wishes.get("task"),
        wishes.get("library"),
        wishes.get("min_downloads", 0),
        wishes.get("max_bytes"),
        recipe.ids if recipe else tuple(ids),
        recipe.name if recipe else "",
    )
    if not (wanted.ids or wanted.author or wanted.task or wanted.library or wanted.min_downloads):
        raise ValueError("nothing says which repositories are wanted: give ids, a recipe, author, task, library or min_downloads")
    if recipe and wishes.get("dry_run") and is_offline(offline):
        return _told(expected(recipe, wishes.get("level"), wishes.get("max_bytes")), each)
    client = hub_client("what is new or changed", listener.announce, offline=offline, rate=wishes.get("rate"))
    sync = Sync(
        registry,
        client,
        wanted,
        how_to_read(key, {"level": wishes.get("level"), "strict": wishes.get("strict", False)}),
        wishes.get("workers", WORKERS),
        tells_news=wishes.get("enqueue", False),
        recipe=recipe,
    )
    if recipe and (target := wishes.get("pin")) is not None:
        return _told(pinned(recipe, client, sync.how, sync.workers, Path(target)), each)
    again = {"enqueue": wishes.get("enqueue", False), "relist": wishes.get("relist", False), "retry": wishes.get("retry", False)}
    return _told(sync.sizes() if wishes.get("dry_run") else steps(sync, wishes.get("limit"), **again), each)


def _recipe(ids: Sequence[str], wishes: SyncOptions) -> Recipe | None:
    """The recipe that a call means, None where it means none. Raises ValueError, WrongLine."""
    asked = wishes.get("recipe")
    if asked is None:
        if wishes.get("pin") is not None:
            raise ValueError("`pin` writes a recipe: say which with `recipe`")
        return None
    if ids or any(wishes.get(name) for name in ("author", "task", "library", "min_downloads", "relist")):
        raise ValueError("a recipe says which repositories are wanted: give no ids and no filter with it")
    if wishes.get("pin") is not None and any(wishes.get(name) for name in ("limit", "max_bytes", "retry", "enqueue", "dry_run")):
        raise ValueError("`pin` takes the whole recipe and reads none of it: leave limit, max_bytes, retry, enqueue and dry_run out")
    return read_recipe(asked)


def _told(found: Iterator[Synced], each: Callable[[Synced], None]) -> Syncing:
    done = []
    for one in found:
        done.append(one)
        each(one)
    return Syncing(tuple(done), sum(one.bytes for one in done))


def steps(sync: Sync, limit: int | None, *, enqueue: bool, relist: bool, retry: bool) -> Iterator[Synced]:
    """All of one call: what failed before and may pass now, what is new, and the work unless it is only enqueued for workers.

    Nothing else syncs this registry meanwhile.

    Raises:
        RegistryError: another sync of this registry is running.
        HubError: the Hub refuses to list, or seems to be down.
    """
    try:
        with sync.store.alone("syncing") as is_alone:
            if not is_alone:
                raise RegistryError(f"{sync.store.name}: another sync of this registry is running. Wait for its end.")
            sync.try_again(retry)
            yield from sync.look(everything=relist)
            if not enqueue:
                yield from sync.work(limit)
    finally:
        sync.registry.refresh()


@contextmanager
def _beside(registry: Path) -> Iterator[str]:
    """A folder for files while they are read, beside the registry; what killed runs left there goes, since no other one is running."""
    prefix = f".{registry.name}.sync-"
    for left in registry.parent.glob(f"{glob.escape(prefix)}*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=registry.parent) as folder:
        yield folder
