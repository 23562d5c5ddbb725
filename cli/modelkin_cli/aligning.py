"""`compare --align`: which sources are opened, and the table of what undoing a change of coordinates brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from modelkin_cli import figures
from modelkin_cli.exact_comparing import open_weights
from modelkin_cli.inputs import HowToRead
from modelkin_cli.output import Output
from modelkin_cli.tables import new_table
from modelkin_cli.text import printable
from modelkin_indexer.aligned import read_aligned
from modelkin_registry.answers import CompareAnswer
from modelkin_registry.recovery import with_recovery

NOTE = (
    "Pearson r on channels that nothing was fitted on. mismatched: the same search against layers that are no counterparts. "
    "Token tables of strangers with one tokenizer align too: they are no evidence."
)


def add_aligned(answer: CompareAnswer, a: str, b: str, how: HowToRead, output: Output) -> CompareAnswer:
    """The answer with the aligned test beside it, on the layer map that the fingerprints show.

    Raises:
        SourceError: a side is no weights, or they cannot be read.
    """
    maps = {c.query: (c.relative, c.layer_map) for c in answer.components}
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(open_weights(name, how))) for name in (a, b))
        output.say("Working out which channels and units are which; large models take minutes.")
        return with_recovery(answer, read_aligned(first, second, maps))


def aligned_page(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The tables of the aligned test."""
    yield Text("\nCoordinates undone\n", style="bold")
    right = ("r before", "r after", "mismatched", "p")
    if found["maps"]:
        table = new_table("residual stream of", "fitted on", "map", *right[:2], "rows shuffled", right=(*right[:2], "rows shuffled"))
        for component, one in found["maps"].items():
            cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (one.before, one.after, one.shuffled)]
            table.add_row(printable(component), printable(one.table), one.kind, *cells, style="dim")
        yield table
        yield Text()
    table = new_table("family", "finding", "units", *right, right=right)
    for family in found["families"]:
        cells = [figures.NOTHING if r is None else figures.correlation(r) for r in (family.before, family.after, family.null_mean)]
        style = "bold" if family.finding in ("recovered", "kept") else "dim"
        name = family.family if family.component == "text" else f"{family.component} {family.family}"
        table.add_row(
            Text(printable(name), style=style), family.finding, ", ".join(family.orders), *cells, figures.probability(family.p_value)
        )
    yield table
    yield Text(NOTE, style="dim")
