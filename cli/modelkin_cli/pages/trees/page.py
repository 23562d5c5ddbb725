"""A family tree as people read it in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from modelkin_cli.pages import figures
from modelkin_cli.pages.text import printable
from modelkin_cli.pages.trees.layout import Row, rows
from modelkin_registry.answers.tree import TreeAnswer, TreeEdge

LEGEND = "-> a hint that the model above came first, with its reason. -- direction unknown. r: correlation of the weights shared."
GUIDE, LABEL = 4, 24  # columns of a step to the right, and those that a label needs to be read
EMPTY = "No registered model has a relative here. `modelkin add SOURCE...` adds models."


def tree_page(answer: TreeAnswer, console: Console) -> Iterator[RenderableType]:
    """The whole forest, the models without a relative, and what to be careful about."""
    placed = rows(answer)
    deepest = max((row.depth for row in placed), default=0)
    yield from _drawn(placed) if deepest * GUIDE + LABEL <= console.width else _indented(placed, console.width)
    if not answer.models:
        yield Text(EMPTY)
    for group in answer.without_ancestor:
        yield Text(f"Common ancestor, not registered: of {', '.join(printable(name) for name in group)}.")
    if answer.alone:
        yield Text(f"Without a relative: {', '.join(printable(name) for name in answer.alone)}.", style="dim")
    if answer.left_out:
        yield Text(f"{answer.left_out} farther models are left out.", style="yellow")
    for warning in (*answer.warnings, LEGEND) if answer.edges else ():
        yield Text(printable(warning), style="dim")


def _indented(placed: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """The same without guides: a column a step, of a third of the terminal at most."""
    for row in placed:
        yield Padding(_label(row), (0, 0, 0, min(row.depth, width // 3)))


def _drawn(placed: Sequence[Row]) -> list[Tree]:
    roots: list[Tree] = []
    branches: list[Tree] = []
    for row in placed:
        del branches[row.depth :]
        if branches:
            branches.append(branches[-1].add(_label(row)))
        else:
            roots.append(Tree(_label(row)))
            branches.append(roots[-1])
    return roots


def _label(row: Row) -> Text:
    model = row.model
    text = Text()
    if row.edge is not None:
        text.append("-> " if row.edge.direction == "hint" else "-- ", style="dim")
    text.append(printable(model.model), style="bold")
    if row.edge is not None:
        text.append(f"  {edge_words(row.edge)}")
        text.append(reason_words(row.edge), style="dim")
    for edge in row.further:
        text.append(f"\n{further_words(edge)}")
    if model.copies:
        text.append(f"\nsame weights: {', '.join(printable(name) for name in model.copies)}", style="dim")
    if model.said and model.claims:
        style = "yellow" if any(claim.verdict == "nothing" for claim in model.claims) else "dim"
        text.append(f"\n{printable(model.said)}", style=style)
    return text


def edge_words(edge: TreeEdge) -> str:
    """`fine-tuned, r 0.996`, with the share of a merge and the parts of what is no whole."""
    words = ", ".join((edge.relation, *edge.also))
    if edge.weight is not None:
        words += f", weight {edge.weight:.2f}"
    if edge.r is not None:
        words += f", r {figures.correlation(edge.r)}"
    return words + (f", only {', '.join(edge.families)}" if edge.kind == "part" else "")


def reason_words(edge: TreeEdge) -> str:
    """Why the direction is taken to be so, or that it is unknown."""
    reasons = "; ".join(printable(reason) for reason in edge.reasons)
    return f" (hint: {reasons})" if edge.direction == "hint" else f" (direction unknown{': ' + reasons if reasons else ''})"


def further_words(edge: TreeEdge) -> str:
    """A second parent, a part from elsewhere, or a common start."""
    if edge.kind == "shared start":
        return f"... same random start as {printable(edge.parent)}, nothing learned is shared"
    return f"{'also from' if edge.direction == 'hint' else 'also with'} {printable(edge.parent)}: {edge_words(edge)}"
