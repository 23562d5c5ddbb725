"""Which engine a registry's address means."""

from __future__ import annotations

from pathlib import Path

from modelkin_indexer import spec
from modelkin_registry.store.protocol import Store


def open_store(path: Path, *, create: bool = True, key_name: str = spec.PUBLIC) -> Store:
    """Open the registry there, made if missing and `create`. Without `create` one that may not be written can be read.

    Raises:
        RegistryError: not a registry, damaged, of another key or spec, written by a newer version, or out of reach.
    """
    from modelkin_registry.store.sqlite.store import SqliteStore  # one engine is imported, that of this registry

    return SqliteStore.open(path, create=create, key_name=key_name)
