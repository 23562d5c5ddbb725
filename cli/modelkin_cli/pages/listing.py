"""The registered models as a table of the columns that were asked for, and in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table

from modelkin.words import size
from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import Sheet, new_table
from modelkin_cli.pages.text import printable

if TYPE_CHECKING:
    from modelkin_registry.answers.upkeep import ListedModel, Listing, Stats

MOST_TOLD = 10  # families and tags that are told, the most used ones
# A column's name -> what stands in it.
COLUMNS: dict[str, Callable[[ListedModel], str]] = {
    "model": lambda one: one.model + (f" (from {one.sender})" if one.sender else ""),
    "parameters": lambda one: figures.count(one.parameters) + (f" ({one.adapter} alone)" if one.adapter else ""),
    "level": lambda one: one.level,
    "components": lambda one: ", ".join(one.components),
    "added": lambda one: one.added[:10],
    "updated": lambda one: one.updated[:10],
    "family": lambda one: one.family,
    "quantization": lambda one: one.quantization,
    "bytes": lambda one: size(one.bytes_total),
    "coverage": lambda one: figures.share(one.coverage),
    "revisions": lambda one: str(one.revisions),
    "tags": lambda one: " ".join(one.tags),
    "note": lambda one: one.note,
    "source": lambda one: one.source,
}
FIGURES = ("parameters", "bytes", "coverage", "revisions")
USUAL = ("model", "parameters", "level", "components", "added")


def listing_page(listing: Listing, columns: Sequence[str] = ()) -> Iterator[RenderableType]:
    """A table of the models, or their number, or what they come to."""
    if listing.stats is not None:
        yield from _stats(listing.stats)
    elif listing.models:
        yield models_table(listing.models, columns or (*USUAL, *(["tags"] if any(one.tags for one in listing.models) else ())))


def models_table(models: Sequence[ListedModel], columns: Sequence[str] = USUAL) -> Table:
    """One row a registered model."""
    table = new_table(*columns, right=[name for name in columns if name in FIGURES])
    for model in models:
        table.add_row(*(printable(COLUMNS[name](model)) for name in columns))
    return table


def _stats(stats: Stats) -> Iterator[RenderableType]:
    unknown = f", of {stats.adapters_unknown:,} not known" if stats.adapters_unknown else ""
    facts = {
        "models": f"{stats.models:,}, {stats.revisions:,} revisions",
        "parameters": f"{stats.parameters:,}",
        "adapters alone": f"{stats.adapters:,} with {stats.adapter_parameters:,} numbers{unknown}" if stats.adapters else "",
        "imported": f"{stats.imported:,}" if stats.imported else "",
        "levels": _most(stats.levels),
        "families": _most(stats.families),
        "tags": _most(stats.tags),
        "registry": size(stats.bytes),
    }
    table = Sheet.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, printable(value))
    yield table
    kinds = new_table("kind of row", "rows", "size", right=("rows", "size"))
    for one in stats.stored:
        kinds.add_row(printable(one.kind), f"{one.table_rows:,}", size(one.bytes))
    yield kinds


def _most(counted: Mapping[str, int]) -> str:
    most = sorted(counted.items(), key=lambda one: (-one[1], one[0]))
    more = f", and {len(most) - MOST_TOLD:,} more" if len(most) > MOST_TOLD else ""
    return ", ".join(f"{name} {number:,}" for name, number in most[:MOST_TOLD]) + more
