"""Which registry a call uses, and the starter registry that a new user's own one begins with."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from modelkin.keys import read_key
from modelkin_data import starter
from modelkin_indexer.errors import RegistryError, UnusableKey
from modelkin_indexer.spec import PUBLIC_KEY
from modelkin_registry.registry import Registry
from modelkin_registry.store.address import Address, is_same, place_of
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.opening import is_there, open_store

if TYPE_CHECKING:
    from modelkin.settings import Settings
    from modelkin.wishes import Say
    from modelkin_indexer.spec import Key
    from modelkin_registry.answers.upkeep import CopiedRegistry, Examination, NewRegistry
    from modelkin_registry.questions import Questions
    from modelkin_registry.search.index import VectorIndex
    from modelkin_registry.store.address import Place
    from modelkin_registry.store.protocol import Store


def user_registry() -> Path:
    """The user's own registry, used when no other is named."""
    import platformdirs  # for those who name no registry

    return Path(platformdirs.user_data_dir("modelkin", appauthor=False)) / "registry.db"


def part_of(registry: Place, key: Key) -> Place:
    """Where a registry's models lie under another key than its own: in a file beside it, `registry.db.private-…`, made by `refresh`.

    Of a registry in PostgreSQL it is a schema beside its own.
    """
    return registry.of_key(key.name) if isinstance(registry, Address) else registry.with_name(f"{registry.name}.{key.name}")


def open_registry(settings: Settings, *, create: bool = False, begin: bool = True, say: Say) -> Registry:
    """Open the registry of this call, or its part under the call's key.

    Args:
        create: make it if missing.
        begin: where the user's own registry does not exist yet, begin it with the starter registry.
        say: is told when that happens, and of fingerprints of an older spec.

    Raises:
        RegistryError: none there, damaged, busy, or of another key.
    """
    key = read_key(settings.key_file)
    path = settings.registry
    if is_there(part := part_of(path or user_registry(), key)):
        path = part
    elif path is None:
        path = own = user_registry()
        if begin and key is PUBLIC_KEY and not own.exists():
            create = True
            begin_registry(own, say)
        elif create:
            own.parent.mkdir(parents=True, exist_ok=True)
    registry = Registry.open(path, create=create, key_name=key.name)
    if outdated := len(registry.store.outdated()):
        words = "1 fingerprint is" if outdated == 1 else f"{outdated} fingerprints are"
        say(f"{path}: {words} of an older spec and not searched. Make them anew with `modelkin upgrade`.")
    return registry


def open_asked(settings: Settings, *, begin: bool = True, say: Say) -> Questions:
    """The registry of a call that asks, or all of them as one. Raises RegistryError, which names the one that is in trouble."""
    if not settings.others:
        return open_registry(settings, begin=begin, say=say)
    from modelkin_registry.joined.registry import Joined  # what one registry does without

    assert settings.registry is not None
    with ExitStack() as opened:
        places = (settings.registry, *settings.others)
        found = [opened.enter_context(open_registry(replace(settings, registry=place, others=()), say=say)) for place in places]
        joined = Joined(found)
        opened.pop_all()
    return joined


class OnDemand:
    """A registry, or several asked as one: opened when it is needed first, and closed at the end; what is open already stays open."""

    def __init__(self, settings: Settings, say: Say, opened: Questions | None = None) -> None:
        self.opened, self._settings, self._say = opened, settings, say
        self._kept_open = opened is not None

    @property
    def is_named(self) -> bool:
        """Whether the call names a registry that is there."""
        place = self._settings.registry
        if self.are_several:
            return True
        return isinstance(place, Address) or (place is not None and place.exists())

    @property
    def are_several(self) -> bool:
        """Whether the call names several registries."""
        return bool(self._settings.others)

    def may_be_absent(self, *, starter: bool) -> bool:
        """Whether the call names no registry, the user has none, and none would be begun (`starter`, under the public key alone)."""
        if self.opened is not None or self._settings.registry is not None:
            return False
        key = read_key(self._settings.key_file)
        begun = user_registry().exists() or is_there(part_of(user_registry(), key))
        return not begun and not (starter and key is PUBLIC_KEY)

    def get(self) -> Questions:
        """The registry. Raises RegistryError."""
        if self.opened is None:
            self.opened = open_asked(self._settings, say=self._say)
        return self.opened

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.opened is not None and not self._kept_open:
            self.opened.close()


def make_registry(settings: Settings, *, private: bool) -> NewRegistry:
    """Make a registry without models, those that come with modelkin among them, under the call's key; `private` demands a private one.

    Raises:
        UnusableKey: the key file holds none, or there is no private key and one is demanded.
        RegistryError: there is something of that name, or it cannot be made.
    """
    key, path = read_key(settings.key_file), settings.registry or user_registry()
    if private and key is PUBLIC_KEY:
        raise UnusableKey(f"{path}: no private key was given. `modelkin key new FILE` makes one, `--key-file FILE` gives it.")
    for taken in (path, part_of(path, key)):
        if is_there(taken) or (isinstance(taken, Path) and taken.is_symlink()):
            raise RegistryError(f"{taken}: is there already, and nothing is written over. Give the path of a new file.")
    if settings.registry is None:
        user_registry().parent.mkdir(parents=True, exist_ok=True)
    with Registry.open(path, key_name=key.name):
        from modelkin_registry.answers.upkeep import NewRegistry

        return NewRegistry(str(path), key.name)


def copied_registry(source: str | os.PathLike[str], target: str | os.PathLike[str], settings: Settings) -> CopiedRegistry:
    """Copy the registry at one place to another one where there is none, or an empty one; both of the call's key. Raises RegistryError."""
    from modelkin_registry.store.copying import copy_store

    key, places = read_key(settings.key_file), (place_of(source), place_of(target))
    if is_same(*places):
        raise RegistryError(f"{places[0]}: cannot be copied onto itself. Give another place.")
    with open_store(places[0], create=False, key_name=key.name) as given, open_store(places[1], key_name=key.name) as made:
        rows = copy_store(given, made)
        from modelkin_registry.answers.upkeep import CopiedRegistry

        return CopiedRegistry(given.name, made.name, made.count(), rows)


def begin_registry(path: Path, say: Say) -> None:
    """Put a copy of the starter registry there, whole or not at all. Does nothing where the package has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packaged = starter.path()
    if packaged is None:
        return
    from shutil import copyfile  # once in a user's life

    with appearing(path) as unfinished:
        copyfile(packaged, unfinished)
    say(f"Your registry {path} was begun with the models that come with modelkin.")


def examine_registry(settings: Settings, *, repair: bool) -> Examination:
    """Look at everything the registry holds, as it lies on disk. Raises RegistryError if it cannot be opened."""
    from modelkin_registry.search.index import VectorIndex

    path, key = settings.registry or user_registry(), read_key(settings.key_file)
    path = part if is_there(part := part_of(path, key)) else path
    with open_store(path, create=False, key_name=key.name) as store:
        return examine(store, VectorIndex(store), repair=repair)


def examine(store: Store, index: VectorIndex, *, repair: bool) -> Examination:
    """Look at everything that is in a store, and with `repair` make anew what is derived."""
    from modelkin_indexer.results import fingerprint as fingerprints
    from modelkin_registry import doctor
    from modelkin_registry.search.candidates import index_rows

    rows_of = lambda blob: index_rows(fingerprints.from_bytes(blob))  # noqa: E731
    findings = doctor.examine(store, index, repair=repair, vectors_of=rows_of)
    from modelkin_registry.answers.upkeep import Examination

    return Examination(tuple(findings), not any(one.state == "broken" for one in findings), store.name)
