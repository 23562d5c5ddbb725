"""A series of checkpoints, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_registry.trajectories.trajectories import FEWEST

if TYPE_CHECKING:
    from modelkin_registry.answers.trajectory import TrajectoryAnswer


def trajectory_page(answer: TrajectoryAnswer) -> Iterator[RenderableType]:
    """The verdict, what speaks for and against it, and the steps."""
    yield Text(f"{answer.verdict[0].upper()}{answer.verdict[1:]}.", style="bold")
    for also in answer.also:
        yield Text(f"- Also: {also}.")
    for finding in answer.findings:
        yield Text(
            f"{'!' if finding.against else '-'} {printable(finding.sentence)} ({finding.null})", style="yellow" if finding.against else ""
        )
    yield Text()
    yield steps_table(answer)
    for warning in answer.warnings if len(answer.steps) >= FEWEST else ():
        yield Text(printable(warning), style="dim")


def steps_table(answer: TrajectoryAnswer) -> Table:
    """One row a checkpoint."""
    table = new_table("checkpoint", "r with last", "length", "turn", "to the one before", right=("r with last", "length", "turn"))
    for step in answer.steps:
        numbers: Sequence[float | None] = (step.final_r, step.length, step.turn)
        table.add_row(
            printable(step.name), *(figures.NOTHING if n is None else f"{n:.3f}" for n in numbers), step.relation or figures.NOTHING
        )
    return table
