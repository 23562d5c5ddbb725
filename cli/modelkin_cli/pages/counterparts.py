"""The table of counterparts: each tensor of a model, what stands for it in another one, and how that was found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable

if TYPE_CHECKING:
    from modelkin_registry.answers.parts import Counterpart, Counterparts

NOTE = (
    "digest: the same numbers. sketch: near, by what they hold. shape: what was left, by shape and spread alone. name: by name. "
    "Of a tensor without a counterpart nothing is said."
)


def counterparts_page(found: Counterparts | None, query: str, relative: str) -> Iterator[RenderableType]:
    """The table, nothing where tensors were not asked for."""
    if found is None or found.tensors is None:
        return
    counts = ", ".join(f"{count} by {what}" for what in ("digest", "sketch", "shape", "name") if (count := getattr(found, what)))
    yield Text(f"\nTensors of {printable(query)} and their counterparts in {printable(relative)}", style="bold")
    yield Text(f"{counts or 'none found'}; {found.none} without a counterpart\n")
    table = new_table("tensor", "counterpart", "found by", "r", "numbers", right=("r", "numbers"))
    for row in found.tensors:
        table.add_row(
            printable(row.query),
            figures.NOTHING if row.relative is None else printable(row.relative),
            figures.NOTHING if row.found is None else row.found,
            _r(row),
            figures.count(row.parameters),
            style="" if row.found in ("digest", "sketch", "name") else "dim",
        )
    yield table
    yield Text(NOTE, style="dim")


def _r(row: Counterpart) -> str:
    """The correlation, with the channel where it is not the one that keeps coordinates."""
    named = f" ({row.channel})" if row.channel in ("gram", "anchored") else ""
    return figures.correlation(row.r) + named
