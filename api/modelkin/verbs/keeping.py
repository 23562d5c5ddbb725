"""A registry's upkeep as functions: each opens the registry that its call means, does its work, and closes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from modelkin.keeping.backups import restored
from modelkin.registries import copied_registry, examine_registry, make_registry
from modelkin.registry import Registry
from modelkin.taking import sharing
from modelkin.verbs.calls import list_options_of, listener_of, opened, options_of, settings_of
from modelkin.wishes import SILENT

if TYPE_CHECKING:
    import pandas

    from modelkin.verbs.calls import AnyKeys, AnyRegistry, Call, ListingCall, ReadingCall
    from modelkin.wishes import Asked, Listener, SyncOptions, WorkOptions
    from modelkin_registry.answers.shared import Exported, Imported, Journal, Pushed, Synced, Syncing
    from modelkin_registry.answers.upkeep import (
        Added,
        Additions,
        BackedUp,
        Calibration,
        CopiedRegistry,
        Examination,
        Listing,
        NewRegistry,
        Noted,
        Refresh,
        Removed,
        Renamed,
        Renewed,
        Shown,
        Tagged,
        Upgrade,
    )


def open(  # `modelkin.open`, as a file is opened
    path: str | os.PathLike[str] | None = None, *, create: bool = False, starter: bool = True, **call: Unpack[Call]
) -> Registry:
    """Open a registry: the one in this file, else $MODELKIN_REGISTRY, else the user's own, begun with the models that come with modelkin.

    Raises:
        RegistryError: there is none and `create` is false, it is damaged, busy, or of another key.
    """
    if path is not None:
        call = {**call, "registry": path}
    return Registry.at(settings_of(call), create=create, starter=starter, listener=listener_of(call))


def new_registry(path: str | os.PathLike[str] | None = None, *, private: bool = False, **call: Unpack[Call]) -> NewRegistry:
    """Make a registry without models in a new file, under the key of the call; without a path the one that the call names.

    `private` demands a private key, so that none is made under the public one by oversight.

    Raises:
        UnusableKey: the key file holds no key, or no private key was given and `private` demands one.
        RegistryError: there is something of that name already, or it cannot be made.
    """
    return make_registry(settings_of(call if path is None else {**call, "registry": path}), private=private)


def copy_registry(source: str | os.PathLike[str], target: str | os.PathLike[str], **call: Unpack[Call]) -> CopiedRegistry:
    """Copy a registry to a new place, from SQLite to PostgreSQL and back too: everything in it, with its numbers and its history.

    Raises:
        RegistryError: no registry at `source`, or a damaged one; or something is at `target` already.
        UnusableKey: the key file holds no key.
    """
    return copied_registry(source, target, settings_of(call))


def add(
    *sources: Asked,
    name: str | None = None,
    replace: bool = False,
    every: bool = False,
    each: Callable[[Added], None] | None = None,
    starter: bool = True,
    **call: Unpack[ReadingCall],
) -> Additions:
    """Index models and keep their fingerprints, in a registry that is made if there is none: `Registry.add`."""
    with opened(call, create=True, starter=starter) as registry:
        return registry.add(*sources, name=name, replace=replace, every=every, each=each, **options_of(call))


def sync(
    *ids: str,
    each: Callable[[Synced], None] | None = None,
    starter: bool = True,
    registry: AnyRegistry = None,
    key_file: AnyKeys = None,
    offline: bool = False,
    listener: Listener = SILENT,
    **wishes: Unpack[SyncOptions],
) -> Syncing:
    """Take in the models of the Hub that are new or changed since the last call with the same filter: `Registry.sync`."""
    call: Call = {"registry": registry, "key_file": key_file, "offline": offline, "listener": listener}
    with opened(call, create=True, starter=starter) as found:
        return found.sync(*ids, each=each, **wishes)


def work(
    *,
    each: Callable[[Synced], None] | None = None,
    registry: AnyRegistry = None,
    key_file: AnyKeys = None,
    offline: bool = False,
    listener: Listener = SILENT,
    **wishes: Unpack[WorkOptions],
) -> Syncing:
    """Do what waits in the queue that `sync` filled with `enqueue`: `Registry.work`."""
    with opened({"registry": registry, "key_file": key_file, "offline": offline, "listener": listener}, starter=False) as found:
        return found.work(each=each, **wishes)


def journal(**call: Unpack[Call]) -> Journal:
    """What `sync` did with which repository of the Hub, or why not."""
    with opened(call) as registry:
        return registry.journal()


def list(**call: Unpack[ListingCall]) -> Listing:  # named as the verb is
    """The registered models: all of them by name, or those that meet the wishes of the call: `Registry.list`. Raises WrongFilter."""
    with opened(call) as registry:
        return registry.list(**list_options_of(call))


def to_pandas(**call: Unpack[ListingCall]) -> pandas.DataFrame:
    """The same as a data frame, a row a model. Raises ImportError where pandas is not installed (extra `pandas`), WrongFilter."""
    return list(**call).to_pandas()


def show(name: str, **call: Unpack[Call]) -> Shown:
    """Everything known of a registered model but its vectors. Raises UnknownModel."""
    with opened(call) as registry:
        return registry.show(name)


def rename(old: str, new: str, **call: Unpack[Call]) -> Renamed:
    """Give a registered model another name; the old one goes on leading to it. Raises UnknownModel, RegistryError."""
    with opened(call, starter=False) as registry:
        return registry.rename(old, new)


def remove(*names: str, dry_run: bool = False, sure: Callable[[Sequence[str]], bool] | None = None, **call: Unpack[Call]) -> Removed:
    """Forget registered models: all of those meant by names and patterns, or none if one is not there: `Registry.remove`."""
    with opened(call, starter=False) as registry:
        return registry.remove(*names, dry_run=dry_run, sure=sure)


def tag(*names: str, add: Iterable[str] = (), remove: Iterable[str] = (), **call: Unpack[Call]) -> Tagged:
    """Give models tags and take others from them: `Registry.tag`. Raises UnknownModel, RegistryError."""
    with opened(call, starter=False) as registry:
        return registry.tag(*names, add=add, remove=remove)


def note(name: str, text: str, **call: Unpack[Call]) -> Noted:
    """Put a note on a model, "" takes it away: `Registry.note`. Raises UnknownModel, RegistryError."""
    with opened(call, starter=False) as registry:
        return registry.note(name, text)


def backup(file: str | os.PathLike[str], **call: Unpack[Call]) -> BackedUp:
    """Write a registry as it is at this moment into a new SQLite file, while others go on writing to it: `Registry.backup`."""
    with opened(call, starter=False) as registry:
        return registry.backup(file)


def restore(file: str | os.PathLike[str], **call: Unpack[Call]) -> CopiedRegistry:
    """Make the registry that the call names of a backup, where there is none yet.

    Raises:
        RegistryError: something is there already; or no backup, or a damaged one, or one of another key.
    """
    return restored(Path(file), settings_of(call))


def calibrate(*, reset: bool = False, **call: Unpack[Call]) -> Calibration:
    """Measure how far a registry's strangers spread, and judge by that from now on: `Registry.calibrate`."""
    with opened(call, starter=False) as registry:
        return registry.calibrate(reset=reset)


def doctor(*, repair: bool = True, **call: Unpack[Call]) -> Examination:
    """Check everything that a registry holds, as it lies on disk, and mend what is derived. Raises RegistryError."""
    if isinstance(registry := call.get("registry"), Registry):
        return registry.doctor(repair=repair)
    return examine_registry(settings_of(call), repair=repair)


def upgrade(
    *, hub: bool = False, each: Callable[[Renewed], None] | None = None, threads: int | None = None, **call: Unpack[Call]
) -> Upgrade:
    """Make fingerprints of an older spec anew from where their weights came from: `Registry.upgrade`."""
    with opened(call, starter=False) as registry:
        return registry.upgrade(hub=hub, each=each, threads=threads)


def refresh(
    into: str | os.PathLike[str],
    new_key: str | os.PathLike[str],
    *,
    places: Sequence[str | os.PathLike[str]] = (),
    hub: bool = False,
    each: Callable[[Renewed], None] | None = None,
    threads: int | None = None,
    **call: Unpack[Call],
) -> Refresh:
    """Read a registry's models again under another key, into the registry of the file `into`: `Registry.refresh`."""
    with opened(call, starter=False) as registry:
        return registry.refresh(into, new_key, places=places, hub=hub, each=each, threads=threads)


def export(file: str | os.PathLike[str], *, paths: bool = True, **call: Unpack[Call]) -> Exported:
    """All models of a registry in one new file; `paths` tells whether folders of this machine are told. Raises SharedFileError."""
    with opened(call) as registry:
        return registry.export(file, paths=paths)


def import_(file: str | os.PathLike[str], *, starter: bool = True, **call: Unpack[Call]) -> Imported:
    """Take in all models of such a file, apart from those here and marked with its name. Raises SharedFileError."""
    with opened(call, create=True, starter=starter) as registry:
        return registry.import_(file)


def push(dataset: str, *, private: bool = True, **call: Unpack[Call]) -> Pushed:
    """The export as a dataset repository on the Hub. Raises SharedFileError, HubError, Offline."""
    with opened(call, starter=False) as registry:
        return registry.push(dataset, private=private)


def pull(dataset: str, *, starter: bool = True, **call: Unpack[Call]) -> Imported:
    """Take in what lies in such a repository (`org/name`, `org/name@revision`). Raises SharedFileError, HubError, Offline."""
    settings = settings_of(call)
    pulled = sharing.pulled(dataset, listener_of(call).announce, offline=settings.offline)
    with pulled as file, opened(call, create=True, starter=starter) as registry:  # opened, or made, once there is something to take in
        return sharing.take_in(registry.inner, file, dataset)
