"""Whole answers as people read them: what was found in one sentence, the reasons, the tables, the picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.counterparts import counterparts_page
from modelkin_cli.pages.pictures import LOW_INFORMATION, heat_strip, legend
from modelkin_cli.pages.sheets import Sheet
from modelkin_cli.pages.tables import RELATIVES_NOTE, family_table, low_information_table, relation_text, relatives_table
from modelkin_cli.pages.text import printable

if TYPE_CHECKING:
    from modelkin_registry.answers.asked import CompareAnswer, QueryAnswer
    from modelkin_registry.answers.claims import StructureBeside
    from modelkin_registry.answers.evidence import ComponentEvidence

COMPARE_NOTE = "r: centred (Pearson) correlation. null: what strangers give, mean ± sd. Low-information families are never a finding."

STRUCTURE_NOTE = "Structure (never a reason for a relation), beside"


def query_page(answer: QueryAnswer, console: Console) -> Iterator[RenderableType]:
    """A query's answer."""
    yield from sentences(answer.explanation, answer.warnings, console)
    if not answer.relatives:
        return
    yield Text(f"Relatives among {figures.count(answer.registry.models)} registered models", style="bold")
    yield Text()
    yield relatives_table(answer.relatives, answer.query.components)
    yield Text(RELATIVES_NOTE, style="dim")
    first = answer.relatives[0]
    for component in first.components:
        yield from _strip(component, first.model, answer.query.layers, console)
    if first.components:
        yield from legend(console.width, ascii_only=console.options.ascii_only)
    for relative in answer.relatives:
        yield from counterparts_page(relative.counterparts, answer.query.source, relative.model)
    for beside in answer.structure:
        yield from _structure(beside, console)


def _structure(beside: StructureBeside, console: Console) -> Iterator[RenderableType]:
    """What lies beside the weights, apart from all evidence."""
    if beside.sentences:
        yield Text(f"\n{STRUCTURE_NOTE} {printable(beside.model)}", style="dim bold")
        for sentence in beside.sentences:
            yield _item("-", Text(printable(sentence), style="dim"), console)


def compare_page(answer: CompareAnswer, console: Console) -> Iterator[RenderableType]:
    """A comparison's answer."""
    yield from sentences(answer.explanation, answer.warnings, console)
    a, b = printable(answer.a.source), printable(answer.b.source)
    yield _sides(answer, a, b)
    for component in answer.components:
        yield Text()
        yield Text.assemble((f"{component.query} component: ", "bold"), relation_text(component.relation))
        yield Text()
        yield family_table(component, answer.controls)
        if (low := low_information_table(component, answer.controls)) is not None:
            yield Text(f"\n{LOW_INFORMATION}\n", style="dim")
            yield low
        yield from _strip(component, "B", answer.a.layers, console)
    if answer.components:
        yield from legend(console.width, ascii_only=console.options.ascii_only)
        yield Text(COMPARE_NOTE, style="dim")
    yield from counterparts_page(answer.counterparts, answer.a.source, answer.b.source)
    if answer.structure is not None:
        yield from _structure(answer.structure, console)


def _sides(answer: CompareAnswer, a: str, b: str) -> Table:
    """The legend of the letters in the tables."""
    table = Sheet.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for letter, name in (("A", a), ("B", b), *((f"C{i}", printable(c.model)) for i, c in enumerate(answer.controls, 1))):
        table.add_row(Text(letter, style="bold"), name)
    return table


def sentences(explanation: Sequence[str], warnings: Sequence[str], console: Console) -> Iterator[RenderableType]:
    """The headline, the reasons under it, and what to be careful about."""
    headline, *reasons = [printable(sentence) for sentence in explanation]
    yield Text(headline, style="bold")
    for reason in reasons:
        yield _item("-", Text(reason), console)
    for warning in warnings:
        yield _item("!", Text(printable(warning), style="yellow"), console)
    yield Text()


def _item(mark: str, text: Text, console: Console) -> Text:
    """A list item whose further lines are indented."""
    return Text(f"{mark} ") + Text("\n  ").join(text.wrap(console, max(console.width - 2, 1)))


def _strip(component: ComponentEvidence, relative: str, layers: Mapping[str, int], console: Console) -> Iterator[RenderableType]:
    if not component.families:
        return
    yield Text()
    yield Text.assemble((f"Layer by layer against {printable(relative)}", "bold"), f" ({component.query} component)")
    known = [layer + 1 for family in component.families for layer, _, _ in family.layers]
    count = max([layers.get(component.query, 0), *known])
    yield from heat_strip(component, count, console.width, ascii_only=console.options.ascii_only)
