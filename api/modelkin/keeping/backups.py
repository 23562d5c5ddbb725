"""A registry written into a file beside its writers, and brought back from there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from modelkin.keys import read_key
from modelkin.registries import copied_registry, user_registry
from modelkin.settings import Settings
from modelkin_indexer.errors import RegistryError
from modelkin_registry.answers.upkeep import BackedUp, CopiedRegistry
from modelkin_registry.search.index import VectorIndex
from modelkin_registry.search.index_files import MANIFEST
from modelkin_registry.store.copying import back_up
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store


def backed_up(store: Store, file: Path) -> BackedUp:
    """Write a registry into a new file as it is at this moment. Raises RegistryError."""
    if os.path.lexists(file):
        raise RegistryError(f"{file}: is there already, and nothing is written over. Give the name of a new file.")
    if not file.parent.is_dir():
        raise RegistryError(f"{file}: the folder {file.parent} does not exist. Make it first, or give another path.")
    back_up(store, file)
    with open_store(file, create=False, key_name=store.key_name) as copy:
        return BackedUp(store.name, str(file), copy.count(), file.stat().st_size)


def restored(file: Path, settings: Settings) -> CopiedRegistry:
    """Make the registry of these settings of a backup, where there is none; what an index beside it was made of is gone.

    Raises:
        RegistryError: something is there already; or no backup, or a damaged one, or one of another key.
    """
    place = settings.registry or user_registry()
    if settings.registry is None:
        user_registry().parent.mkdir(parents=True, exist_ok=True)
    answer = copied_registry(file, place, settings)
    with open_store(place, create=False, key_name=read_key(settings.key_file).name) as store, suppress(OSError):
        (VectorIndex(store).root / MANIFEST).unlink()  # it may be of what came after the backup; what it names is swept
    return answer
