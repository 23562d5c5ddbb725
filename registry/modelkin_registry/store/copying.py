"""A registry copied from one place to another, whatever engines they have: every row with its numbers, times and checksums."""

from __future__ import annotations

from pathlib import Path

from modelkin_indexer.errors import RegistryError
from modelkin_registry.store.appearing import appearing
from modelkin_registry.store.opening import open_store
from modelkin_registry.store.protocol import Store


def copy_store(source: Store, target: Store) -> int:
    """Fill an empty registry with another one as it is at this moment, whole or not at all. Returns how many rows there are.

    It is the same registry then: names, revisions, numbers, the change log and the journal of the Hub go on in the copy as in the original.

    Raises:
        RegistryError: the target is not empty, the source is damaged, or trouble with either.
    """
    with source.reading():
        for problem in source.inspection.damage():
            raise RegistryError(f"{source.name}: is damaged, so no copy is made ({problem}). `modelkin doctor` tells more.")
        with target.batch():
            if not target.tables.is_empty():
                raise RegistryError(f"{target.name}: is not empty, and nothing is written over. Give the place of a new registry.")
            rows = sum(_copied(source, target, table) for table in source.tables.names)
            target.tables.go_on_from(source.tables.numbers())
    return rows


def back_up(store: Store, path: Path) -> None:
    """Write a registry as it is at this moment into a new file, while others go on writing to it. Whole or not at all.

    Raises:
        RegistryError: trouble with the registry or the file.
    """
    with appearing(path) as unfinished:
        if not store.written_to(unfinished):
            with open_store(unfinished, key_name=store.key_name) as copy:
                copy_store(store, copy)


def _copied(source: Store, target: Store, table: str) -> int:
    given = source.tables.count(table)
    if (kept := target.tables.fill(table, source.tables.rows(table))) != given:
        raise RegistryError(f"{target.name}: only {kept} of {given} rows of table {table} could be written. Nothing was kept; try again.")
    return kept
