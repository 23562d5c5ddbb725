"""Which engine a registry's place means. One engine is imported, that of this registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkin_indexer import spec
from modelkin_registry.store.address import Address, Place
from modelkin_registry.store.postgres.driver import require_driver

if TYPE_CHECKING:
    from modelkin_registry.store.protocol import Store


def open_store(place: Place, *, create: bool = True, key_name: str = spec.PUBLIC) -> Store:
    """Open the registry there, made if missing and `create`. Without `create` one that may not be written can be read.

    Raises:
        RegistryError: not a registry, damaged, of another key or spec, written by a newer version, or out of reach.
    """
    if isinstance(place, Address):
        require_driver(place)
        from modelkin_registry.store.postgres.store import PostgresStore

        return PostgresStore.open(place, create=create, key_name=key_name)
    from modelkin_registry.store.sqlite.store import SqliteStore

    return SqliteStore.open(place, create=create, key_name=key_name)


def is_there(place: Place) -> bool:
    """Whether there is something of a registry's place: a file, or a schema with a registry. Raises RegistryError."""
    if isinstance(place, Address):
        require_driver(place)
        from modelkin_registry.store.postgres.connecting import has_registry

        return has_registry(place)
    return place.exists()
