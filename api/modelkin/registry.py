"""A registry that takes paths and Hub ids as well as fingerprints.

What one method alone needs is imported when it is called: a question does without all that keeps a registry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from msgspec.structs import replace

from modelkin.asked import AskedRegistry
from modelkin.keys import read_key
from modelkin.registries import examine, open_registry, part_of
from modelkin.settings import Settings
from modelkin.wishes import HOST, PORT, RATE, HowToRead, Listener
from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.address import is_same, place_of

if TYPE_CHECKING:
    import pandas

    from modelkin.serving.wishes import Served
    from modelkin.wishes import Asked, ListOptions, Options, SyncOptions, WorkOptions
    from modelkin_registry import registry as kept
    from modelkin_registry.answers.shared import Exported, Imported, Journal, Pushed, Synced, Syncing
    from modelkin_registry.answers.tree import TreeAnswer
    from modelkin_registry.answers.upkeep import (
        Added,
        Additions,
        BackedUp,
        Calibration,
        Examination,
        Listing,
        Noted,
        Refresh,
        Removed,
        Renamed,
        Renewed,
        Shown,
        Tagged,
        Upgrade,
    )
    from modelkin_registry.store.address import Place


class Registry(AskedRegistry):
    """An open registry. Use it from the thread that opened it; several processes may have the same one open.

    >>> with Registry.open("models.db", create=True) as registry:  # doctest: +SKIP
    ...     registry.add("models/llama")
    ...     registry.query("models/mystery").relatives
    """

    inner: kept.Registry

    def __init__(self, inner: kept.Registry, settings: Settings, listener: Listener) -> None:
        super().__init__(inner, settings, listener)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = False,
        key_file: str | os.PathLike[str] | None = None,
        offline: bool = False,
        listener: Listener | None = None,
    ) -> Self:
        """Open the registry in this file, or at this address of PostgreSQL (`postgresql://host/database`).

        Raises:
            RegistryError: there is none and `create` is false, it is damaged, busy, or of another key.
        """
        settings = Settings(place_of(path), None if key_file is None else Path(key_file), offline)
        return cls.at(settings, create=create, listener=listener or Listener())

    @classmethod
    def at(cls, settings: Settings, *, create: bool = False, starter: bool = True, listener: Listener) -> Self:
        """The registry that these settings mean: without a path the user's own, begun with the starter models. Raises RegistryError."""
        return cls(open_registry(settings, create=create, begin=starter, say=listener.say), settings, listener)

    @property
    def place(self) -> Place:
        """The registry's file, or its address."""
        return self.inner.store.place

    def tree(self, model: str | None = None, *, depth: int = 2) -> TreeAnswer:
        """The registered models as family trees, all of them or those at most `depth` steps from one. Raises UnknownModel."""
        return self.inner.tree(model, depth=depth, say=self.listener.say)

    def serve(
        self,
        *,
        host: str = HOST,
        port: int = PORT,
        read_only: bool = False,
        token_file: str | os.PathLike[str] | None = None,
        hub: bool = False,
        weights: int = 0,
        rate: float = RATE,
        answers: str | os.PathLike[str] | None = None,
        paths: bool = False,
        language: str = "en",
        each: Callable[[Served], None] | None = None,
    ) -> Served:
        """Serve this registry as pages for a browser, and as JSON, until the process is told to end (Ctrl-C). Needs the extra `serve`.

        Args:
            host: the address that is listened at; by default this machine alone reaches it.
            port: 0 takes a free one.
            read_only: take no model in, and keep answers in no folder: they last for as long as it is served.
            token_file: tokens, one a line; who sends one may add and remove models.
            hub: read models of the Hub that are not registered and are asked about.
            weights: megabytes of a file of weights that may be sent to be asked about; by default fingerprints alone.
            rate: units a second from one address (a page is one, a question 10); 0 without bound.
            answers: the folder that answers are kept in, each under its digest; by default one beside the registry.
            paths: tell where on this machine models came from.
            language: of the pages, "en" or "ko".
            each: is told the address as soon as it can be asked.

        Raises:
            ServeError: Starlette or uvicorn is not installed, the address is taken, or the tokens cannot be used.
            ReportError: another language.
            ValueError: wishes that contradict each other.
        """
        from modelkin.serving.running import served
        from modelkin.serving.wishes import ServeWishes

        tokens, folder = (None if one is None else Path(one) for one in (token_file, answers))
        told = ServeWishes(host, port, read_only, tokens, hub, weights, rate, folder, paths, language)
        settings = replace(self.settings, registry=self.place)
        return served(settings, told, self.listener, each or (lambda _: None))

    # models in

    def add(
        self,
        *sources: Asked,
        name: str | None = None,
        replace: bool = False,
        every: bool = False,
        each: Callable[[Added], None] | None = None,
        **options: Unpack[Options],
    ) -> Additions:
        """Index models and keep their fingerprints. A source that cannot be read is reported, and the others are added all the same.

        Of a hundred small models and more, processes of their own read ahead of what is stored (`threads=1`: none).

        Weights that show kinship to those of the model which has the name are a new revision of it; others are refused.

        Args:
            name: of the model, with one source; by default the name of its folder.
            replace: take the name of a model with other weights, which is then kept as `name@digits`.
            every: of a folder or a Hub repository that holds several models, or whose subfolders do, take each.
            each: is told what became of a source, as soon as it is stored or has failed.
        """
        from modelkin.taking.adding import Batch
        from modelkin_registry.answers.upkeep import Additions

        batch = Batch(self.inner, self._how(options), self.listener, replace=replace, every=every, key_file=self.settings.key_file)
        if name is not None and (len(sources) > 1 or every):
            raise ValueError("`name` names one model; give one source with it")
        done = []
        for added in batch.add(sources, name):
            done.append(added)
            if each is not None:
                each(added)
        self.inner.refresh()
        return Additions(tuple(done), batch.exit_code)

    def sync(self, *ids: str, each: Callable[[Synced], None] | None = None, **wishes: Unpack[SyncOptions]) -> Syncing:
        """Take in the models of the Hub that are new or changed since the last call with the same filter (see `SyncOptions`).

        Stopped anywhere, it goes on with the next call. A repository that cannot be read is noted in the journal, and the others are done.

        Args:
            ids: repositories to look at; without, the filter says which.
            each: is told what came of a repository, as soon as it is done.

        Raises:
            ValueError: neither ids nor a filter.
            Offline: requests are forbidden.
            RegistryError: another sync of this registry is running.
            HubError: the Hub refuses to list, or seems to be down.
        """
        from modelkin.taking.syncing import synced  # brings the network's imports

        return synced(self.inner, ids, wishes, self._key, self.settings.offline, self.listener, each or (lambda _: None))

    def work(self, *, each: Callable[[Synced], None] | None = None, **wishes: Unpack[WorkOptions]) -> Syncing:
        """Do what waits in the queue that `sync` filled with `enqueue` (see `WorkOptions`), beside workers on other machines.

        Each job is stored once, whatever dies. A job that fails in a way that may pass is put off ("later") and tried again up to 5 times;
        what fails otherwise, or kills three workers, is set aside with its reason ("failed"). Interrupted, it gives back what it holds.

        Args:
            each: is told what came of a job, as soon as it is done.

        Raises:
            Offline: requests are forbidden.
            RegistryError: the registry may not be written, is out of reach for 5 minutes, or the disk is full.
            HubError: the Hub seems to be down.
            LaunchError: the Ray cluster is not there, or out of the registry's reach.
        """
        from modelkin.working.calling import worked  # brings the network's imports

        return worked(self.inner, self.settings, wishes, self.listener, each or (lambda _: None))

    def journal(self) -> Journal:
        """What `sync` did with which repository of the Hub, or why not."""
        from modelkin_registry.answers.shared import Journal

        return Journal(tuple(self.inner.store.hub.entries()))

    def upgrade(self, *, hub: bool = False, each: Callable[[Renewed], None] | None = None, threads: int | None = None) -> Upgrade:
        """Make fingerprints of an older spec anew: from the folders and files that they came from, and those that come with modelkin.

        What is not at hand is told and stays as it is: listed, but not searched. Stopped anywhere, it goes on with the next call.

        Args:
            hub: read those that came from the Hub there again.
            each: is told what became of one, as soon as it is done.
        """
        from modelkin.taking.upgrading import renewed
        from modelkin_registry.answers.upkeep import Upgrade

        done = []
        how = HowToRead(self._key, threads=threads, offline=self.settings.offline)
        for one in renewed(self.inner, how, self.listener, hub=hub):
            done.append(one)
            if each is not None:
                each(one)
        return Upgrade(tuple(done))

    def refresh(
        self,
        into: str | os.PathLike[str],
        new_key: str | os.PathLike[str],
        *,
        places: Sequence[str | os.PathLike[str]] = (),
        hub: bool = False,
        each: Callable[[Renewed], None] | None = None,
        threads: int | None = None,
    ) -> Refresh:
        """Read the models of this registry again under another key, into the registry of that file, which is made if there is none.

        Names and claims go with them. What is not at hand is told. Stopped anywhere, it goes on with the next call.

        Args:
            into: another registry's file; or this one's, which then has its models under both keys (those of the new key in a file beside
                it), so that a query can be asked under each.
            new_key: a file with the other private key (`modelkin.key`).
            places: folders in which the weights lie under their models' names; without, they are looked for where they came from.
            hub: read those that came from the Hub there again.
            each: is told what became of one, as soon as it is done.

        Raises:
            RegistryError: `into` is damaged, busy, or of another key; or this registry, which is of the new key.
            UnusableKey: no key is in that file.
        """
        from modelkin.taking.refreshing import refreshed
        from modelkin_registry.answers.upkeep import Refresh

        key, target = read_key(Path(new_key)), place_of(into)
        if is_same(target, self.place):
            if key.name == self._key.name:
                raise RegistryError(f"{self.place}: is of the key {key.name} already. Give another key, or another registry.")
            target = part_of(target, key)
        settings = Settings(target, Path(new_key), self.settings.offline)
        done = []
        with Registry.at(settings, create=True, starter=False, listener=self.listener) as other:
            how = HowToRead(other._key, threads=threads, offline=settings.offline)
            for one in refreshed(self.inner, other.inner, how, self.listener, places=[Path(place) for place in places], hub=hub):
                done.append(one)
                if each is not None:
                    each(one)
            return Refresh(str(other.place), other._key.name, tuple(done))

    # models kept

    def list(self, **wishes: Unpack[ListOptions]) -> Listing:
        """The registered models: all of them by name, or those that meet the wishes (see `ListOptions`). Raises WrongFilter."""
        from modelkin.keeping.listing import listing

        return listing(self.inner.store, wishes)

    def to_pandas(self, **wishes: Unpack[ListOptions]) -> pandas.DataFrame:
        """The same as a data frame, a row a model. Raises ImportError where pandas is not installed (extra `pandas`), WrongFilter."""
        return self.list(**wishes).to_pandas()

    def show(self, name: str) -> Shown:
        """Everything known of a registered model but its vectors. Raises UnknownModel."""
        from modelkin_registry.answers.upkeep import Shown

        known = self.inner.show(name)
        return Shown(**{**known, "weighed_claims": self.inner.weighed_claims(name)})

    def rename(self, old: str, new: str) -> Renamed:
        """Give a registered model another name; the old one goes on leading to it. Raises UnknownModel, RegistryError."""
        from modelkin_registry.answers.upkeep import Renamed

        self.inner.rename(old, new)
        return Renamed(new, old)

    def remove(self, *names: str, dry_run: bool = False, sure: Callable[[Sequence[str]], bool] | None = None) -> Removed:
        """Forget registered models: all of those named, or none if one is not there.

        Args:
            names: of models or revisions, and patterns of names (`acme/*`).
            dry_run: tell which would be forgotten, and do nothing.
            sure: is shown the models that would be forgotten, and may refuse.

        Raises:
            UnknownModel: a name that no model has, or a pattern that none meets.
        """
        from modelkin.keeping.labelling import removed

        return removed(self.inner.store, names, dry_run=dry_run, sure=sure)

    def tag(self, *names: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Tagged:
        """Give models tags and take others from them, by which they are chosen (`tag=NAME`). Without either, tells those they have.

        Tags and notes stay with the model, whatever it is called and whatever its weights become. They go with `registry copy`, backups
        and `refresh`, and never into an export.

        Raises:
            UnknownModel: a name that no model has, or a pattern (`acme/*`) that none meets.
            RegistryError: what can be no tag.
        """
        from modelkin.keeping.labelling import tagged

        return tagged(self.inner.store, names, add, remove)

    def note(self, name: str, text: str) -> Noted:
        """Put a note on a model in the place of the one that it had; "" takes it away. Raises UnknownModel, RegistryError."""
        from modelkin.keeping.labelling import noted

        return noted(self.inner.store, name, text)

    def backup(self, file: str | os.PathLike[str]) -> BackedUp:
        """Write this registry as it is at this moment into a new SQLite file, while others go on writing to it. Raises RegistryError."""
        from modelkin.keeping.backups import backed_up

        return backed_up(self.inner.store, Path(file))

    def calibrate(self, *, reset: bool = False) -> Calibration:
        """Measure how far this registry's strangers spread, and judge by that from now on; or with `reset` by what is shipped again."""
        from modelkin_registry.answers.upkeep import Calibration

        found = self.inner.forget_backgrounds() if reset else self.inner.calibrate()
        return Calibration(len(self), found, any(one.used for one in found))

    def doctor(self, *, repair: bool = True) -> Examination:
        """Check everything that the registry holds, and mend what is derived. Raises RegistryError."""
        return examine(self.inner.store, self.inner.index, repair=repair)

    # registries shared

    def export(self, file: str | os.PathLike[str], *, paths: bool = True) -> Exported:
        """All models in one new file; `paths` tells whether folders of this machine are told. Raises SharedFileError."""
        from modelkin.taking import sharing

        return sharing.export(self.inner, Path(file), paths=paths)

    def import_(self, file: str | os.PathLike[str]) -> Imported:
        """Take in all models of such a file, apart from those here and marked with its name. Raises SharedFileError."""
        from modelkin.taking import sharing

        return sharing.take_in(self.inner, Path(file))

    def push(self, dataset: str, *, private: bool = True) -> Pushed:
        """The export as a dataset repository on the Hub. Raises SharedFileError, HubError, Offline."""
        from modelkin.sources.network import hub_client
        from modelkin.taking import sharing

        client = hub_client(f"a place for the dataset {dataset}", self.listener.announce, offline=self.settings.offline)
        return sharing.push(self.inner, client, dataset, private=private)

    def pull(self, dataset: str) -> Imported:
        """Take in what lies in such a repository (`org/name`, `org/name@revision`). Raises SharedFileError, HubError, Offline."""
        from modelkin.taking import sharing

        with sharing.pulled(dataset, self.listener.announce, offline=self.settings.offline) as file:
            return sharing.take_in(self.inner, file, dataset)
