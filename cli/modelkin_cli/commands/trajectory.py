"""`modelkin trajectory`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.naming import FINGERPRINT_SUFFIX, existing
from modelkin.sources.reading import read_source
from modelkin.wishes import HowToRead
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages import figures
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.pages.text import printable
from modelkin_cli.reading_options import printing, reading, starter_option
from modelkin_registry.answers.trajectory import TrajectoryAnswer
from modelkin_registry.trajectories.trajectories import FEWEST

WEIGHTS = (".safetensors", ".gguf", FINGERPRINT_SUFFIX)  # files of a folder that are checkpoints of their own


@click.command("trajectory", short_help="Examine checkpoints said to lead from scratch to a model.")
@click.argument("checkpoints", nargs=-1, required=True, metavar="DIR|CHECKPOINT...")
@starter_option
@reading
@printing
@settings
def command(settings: Settings, checkpoints: tuple[str, ...], starter: bool, how: HowToRead, output: Output) -> None:
    """Examine a series of checkpoints said to lead from a random start to a final model.

    DIR has them as subfolders or files, in natural order (step-2 before step-10); several are taken in the order given. A checkpoint
    may also be a fingerprint that `modelkin fingerprint` wrote (.modelkin). Every finding has its number beside what chance or an
    honest run gives.

    \b
    Example:
      modelkin trajectory runs/llama
      modelkin trajectory step-0 step-1000 final --json
    """
    paths = [existing(name, from_hub=False) for name in checkpoints]
    chosen = in_order(paths[0]) if len(paths) == 1 else [str(path) for path in paths]
    with output.listening() as listener:
        series = [read_source(name, how, listener).fingerprint for name in chosen]
    with open_registry(settings, begin=starter, say=output.say) as registry:
        answer = registry.trajectory([Path(name).name for name in chosen], series)
    output.answer(answer, (answer.verdict,), lambda _: trajectory_page(answer))


def in_order(folder: Path) -> list[str]:
    """The checkpoints of a folder in natural order: its subfolders, or without any its weights files; a file is a series of one."""
    if not folder.is_dir():
        return [str(folder)]
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = [path for path in inside if path.is_dir()] or [path for path in inside if path.suffix in WEIGHTS]
    if not found:
        raise click.UsageError(f"{folder} has neither subfolders nor weights files in it. Give the checkpoints one by one.")
    return [str(path) for path in sorted(found, key=_natural)]


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Numbers in a name count as numbers."""
    parts = re.findall(r"\d{1,18}|\D+", path.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


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
