"""A merge taken apart, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from modelkin_cli.pages.answers import sentences
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.asked import DecomposeAnswer, Merge, MergeByLayer, MergedLayer

NOTE = "Weights with their standard errors. left: length left unexplained / the length of the part."


def merge_page(answer: DecomposeAnswer, console: Console) -> Iterator[RenderableType]:
    """The sentences, then weights by component and layer."""
    yield from sentences(answer.explanation, answer.warnings, console)
    found = answer.merge or answer.fit
    if found is None:
        return
    if isinstance(found, MergeByLayer):
        yield _origins(found.layers)
        return
    yield _weights(found)
    yield Text(NOTE, style="dim")


def _weights(found: Merge) -> Table:
    """One row a part, one column a parent."""
    names = [printable(parent.model) for parent in found.parents]
    table = new_table("part", *names, "left", right=("left",))
    table.add_row("whole", *(_weight(parent.weight, parent.sd) for parent in found.parents), f"{found.residual:.2%}", style="bold")
    several = len(found.components) > 1
    parts = [*(found.components if several else ()), *found.layers, *((found.norms,) if found.norms else ())]
    for part in parts:
        name = f"{part.component} {part.part}" if several and part.component not in (None, part.part) else part.part
        table.add_row(printable(name), *(_weight(one.weight, one.sd) for one in part.weights), f"{part.residual:.2%}")
    return table


def _weight(weight: float, sd: float | None) -> str:
    return f"{weight:.3f}" if sd is None else f"{weight:.3f} ± {sd:.2g}"


def _origins(layers: Sequence[MergedLayer]) -> Table:
    """One row a layer: whose it is."""
    table = new_table("layer", "is layer", "of")
    for one in layers:
        table.add_row(str(one.layer), str(one.from_.layer), printable(one.from_.model))
    return table
