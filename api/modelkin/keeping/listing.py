"""The registered models as they were asked for: chosen, sorted, counted, or in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from modelkin.wishes import ListOptions
from modelkin_indexer.errors import WrongFilter
from modelkin_registry.answers.upkeep import Listing, Stats, StoredRows
from modelkin_registry.store.filters import SORTS, Where, parse_where
from modelkin_registry.store.protocol import Store


def listing(store: Store, wishes: ListOptions) -> Listing:
    """The models that meet the wishes.

    Raises:
        WrongFilter: a condition that cannot be understood, or a sort that there is none of.
        RegistryError: the registry is damaged.
    """
    sort, limit = wishes.get("sort", "name"), wishes.get("limit")
    if sort not in SORTS:
        raise WrongFilter(f"{sort!r}: no field to sort by. Give one of {', '.join(SORTS)}.")
    where = parse_where(wishes.get("where", ()), wishes.get("since"))
    with store.reading():
        if wishes.get("stats"):
            told = stats(store, where)
            return Listing((), told.models, store.name, told)
        if wishes.get("count"):
            return Listing((), store.count_matching(where), store.name)
        models = tuple(store.listed(where, sort=sort, reverse=wishes.get("reverse", False), limit=limit))
        return Listing(models, len(models) if limit is None else store.count_matching(where), store.name)


def stats(store: Store, where: Where) -> Stats:
    """The models that meet the conditions in numbers, and what the registry takes."""
    rows, stored = store.summed(where), store.inspection.sizes()
    adapters = [row for row in rows if row["is_adapter"]]
    return Stats(
        models=_sum(rows, "models"),
        revisions=_sum(rows, "revisions"),
        parameters=_sum((row for row in rows if not row["is_adapter"]), "parameters"),
        adapters=_sum(adapters, "models"),
        adapter_parameters=_sum(adapters, "parameters"),
        adapters_unknown=_sum(adapters, "unknown"),
        imported=_sum((row for row in rows if row["is_imported"]), "models"),
        levels=_counted(rows, "level"),
        families=_counted(rows, "family"),
        tags=store.tags_used(where),
        stored=tuple(StoredRows(*one) for one in stored),
        bytes=store.inspection.size(),
    )


def _sum(rows: Iterable[Mapping[str, Any]], column: str) -> int:
    return sum(int(row[column] or 0) for row in rows)


def _counted(rows: Iterable[Mapping[str, Any]], column: str) -> dict[str, int]:
    """Models by what is in a column, the most first; without those that have nothing there."""
    found: Counter[str] = Counter()
    for row in rows:
        if row[column]:
            found[row[column]] += int(row["models"])
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))
