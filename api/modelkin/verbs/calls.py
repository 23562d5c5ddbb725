"""What the functions of `modelkin` take beside their own arguments, and the registry that follows from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from modelkin.keys import read_key
from modelkin.settings import Settings
from modelkin.wishes import SILENT, ExactOptions, HowToRead, Listener, ListOptions, OpenRegistry, Options, how_to_read
from modelkin_indexer.errors import RegistryError, UnusableKey
from modelkin_registry.store.address import place_of

if TYPE_CHECKING:
    from modelkin.asked import AskedRegistry
    from modelkin.registries import OnDemand
    from modelkin.registry import Registry

AnyKeys = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
AnyRegistry = OpenRegistry | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
ONE_REGISTRY = (
    "{count} registries were given. Only questions ask several as one (query, compare, decompose, trajectory, screen, evidence, verify); "
    "give one."
)


class Call(TypedDict, total=False):
    """Where a call asks, and who is told.

    registry  an open one, a file, or an address (`postgresql://host/database`); by default $MODELKIN_REGISTRY, else the user's own.
              Questions take a list of them too, and ask all as if they were one
    key_file  a private key (by default $MODELKIN_KEY_FILE, else the public key); an open registry has its own. `query` takes several
              too, and asks under each; the word "public" stands for the public key
    offline   forbid every request, as $MODELKIN_OFFLINE and $HF_HUB_OFFLINE do
    listener  who is told of progress and notes
    """

    registry: AnyRegistry
    key_file: AnyKeys
    offline: bool
    listener: Listener


class ReadingCall(Call, Options, total=False):
    """The same, with how sources are read (see `Options`)."""


class ListingCall(Call, ListOptions, total=False):
    """The same, with which models are listed and how (see `ListOptions`)."""


class ComparingCall(ReadingCall, ExactOptions, total=False):
    """The same, with how an exact comparison goes (see `ExactOptions`)."""


def options_of(call: ReadingCall) -> Options:
    """That part of a call that says how sources are read."""
    return {
        "level": call.get("level"),
        "threads": call.get("threads"),
        "file": call.get("file"),
        "adapter_base": call.get("adapter_base"),
        "strict": call.get("strict", False),
    }


def list_options_of(call: ListingCall) -> ListOptions:
    """That part of a call that says which models are listed, and how."""
    return cast(ListOptions, {name: value for name, value in call.items() if name in ListOptions.__annotations__})


def settings_of(call: Call) -> Settings:
    """Which registry and which key a call means that takes one of each. Raises UnusableKey, RegistryError for several."""
    settings = asked_settings_of(call)
    if settings.others:
        raise RegistryError(ONE_REGISTRY.format(count=1 + len(settings.others)))
    return settings


def asked_settings_of(call: Call) -> Settings:
    """Which registries, asked as one, and which key a question means, the environment's where it names none.

    Raises:
        UnusableKey: several keys.
    """
    given = call.get("registry")
    if isinstance(given, OpenRegistry):
        return given.settings
    given = given or os.environ.get("MODELKIN_REGISTRY") or ()
    places = [place_of(one) for one in ((given,) if isinstance(given, (str, os.PathLike)) else given)]
    keys = key_files_of(call)
    if len(keys) > 1:
        raise UnusableKey(f"{len(keys)} keys were given. Only `query` asks under several; give one.")
    return Settings(next(iter(places), None), next(iter(keys), None), call.get("offline", False), others=tuple(places[1:]))


def key_files_of(call: Call) -> tuple[Path, ...]:
    """The files of all keys that a call names; none for the public key."""
    given = call.get("key_file") or os.environ.get("MODELKIN_KEY_FILE") or ()
    return (Path(given),) if isinstance(given, (str, os.PathLike)) else tuple(map(Path, given))


def listener_of(call: Call) -> Listener:
    """Who is told of what a call does."""
    registry = call.get("registry")
    return registry.listener if isinstance(registry, OpenRegistry) else call.get("listener", SILENT)


def how_of(call: ReadingCall) -> HowToRead:
    """How a call reads its sources. Raises UnusableKey, ValueError."""
    settings = asked_settings_of(call)
    return how_to_read(read_key(settings.key_file), options_of(call), settings.offline)


@contextmanager
def opened(call: Call, *, create: bool = False, starter: bool = True) -> Iterator[Registry]:
    """The registry of a call: as it is if it is open, else opened, and closed at the end. Raises RegistryError."""
    from modelkin.registry import Registry  # a tenth of a second that reading a source does without

    registry = call.get("registry")
    if isinstance(registry, Registry):
        yield registry
        return
    with Registry.at(settings_of(call), create=create, starter=starter, listener=listener_of(call)) as found:
        yield found


@contextmanager
def asked(call: Call, *, starter: bool = True) -> Iterator[AskedRegistry]:
    """The registry of a question, or all of those that it names, asked as one. Raises RegistryError."""
    settings = asked_settings_of(call)
    if not settings.others or isinstance(call.get("registry"), OpenRegistry):
        from modelkin.asked import AskedRegistry

        if isinstance(registry := call.get("registry"), AskedRegistry):
            yield registry
            return
        with opened(call, starter=starter) as found:
            yield found
        return
    from modelkin.asked import Registries

    with Registries.at(settings, listener_of(call)) as several:
        yield several


def demanded(call: Call) -> OnDemand:
    """The registry of a question that may do without one, or all of those that it names."""
    from modelkin.asked import AskedRegistry
    from modelkin.registries import OnDemand  # as above

    registry = call.get("registry")
    return OnDemand(asked_settings_of(call), listener_of(call).say, registry.inner if isinstance(registry, AskedRegistry) else None)
