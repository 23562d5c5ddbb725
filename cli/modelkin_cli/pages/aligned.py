"""The table of what undoing a change of coordinates brings."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.exact import Aligned

NOTE = (
    "Pearson r on channels that nothing was fitted on. mismatched: the same search against layers that are no counterparts. "
    "Token tables of strangers with one tokenizer align too: they are no evidence."
)


def aligned_page(found: Aligned) -> Iterator[RenderableType]:
    """The tables of the aligned test."""
    yield Text("\nCoordinates undone\n", style="bold")
    right = ("r before", "r after", "mismatched", "p")
    if found.maps:
        table = new_table("residual stream of", "fitted on", "map", *right[:2], "rows shuffled", right=(*right[:2], "rows shuffled"))
        for component, one in found.maps.items():
            cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (one.before, one.after, one.shuffled)]
            table.add_row(printable(component), printable(one.table), one.kind, *cells, style="dim")
        yield table
        yield Text()
    table = new_table("family", "finding", "units", *right, right=right)
    for family in found.families:
        cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (family.before, family.after, family.null_mean)]
        style = "bold" if family.finding in ("recovered", "kept") else "dim"
        name = family.family if family.component == "text" else f"{family.component} {family.family}"
        table.add_row(
            Text(printable(name), style=style), family.finding, ", ".join(family.orders), *cells, figures.probability(family.p_value)
        )
    yield table
    yield Text(NOTE, style="dim")
