"""`modelkin trajectory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.pages.trajectory import trajectory_page
from modelkin_cli.reading_options import ReadingCommand, printing, reading, starter_option
from modelkin_cli.reporting import Paper, report_options

LOG = "The run's log: CSV, JSON lines, or TensorBoard's event files or their folder (step, loss, learning rate). Whether they agree."


@click.command("trajectory", cls=ReadingCommand, short_help="Examine checkpoints said to lead from scratch to a model.")
@click.argument("checkpoints", nargs=-1, required=True, metavar="DIR|CHECKPOINT...")
@click.option("--log", type=FILE, metavar="FILE", help=LOG)
@starter_option
@report_options
@reading
@printing
@calling
def command(checkpoints: tuple[str, ...], log: Path | None, starter: bool, paper: Paper, output: Output, call: dict[str, Any]) -> None:
    """Examine a series of checkpoints said to lead from a random start to a final model.

    DIR has them as subfolders or files, in natural order (step-2 before step-10); several are taken in the order given. A checkpoint
    may also be a fingerprint that `modelkin fingerprint` wrote (.modelkin). Every finding has its number beside what chance or an
    honest run gives.

    \b
    Example:
      modelkin trajectory runs/llama
      modelkin trajectory step-0 step-1000 final --json
      modelkin trajectory runs/llama --report run.html
      modelkin trajectory runs/llama --log train.csv
    """
    with output.listening() as listener:
        answer = modelkin.trajectory(*checkpoints, log=log, starter=starter, listener=listener, **call)
    output.answer(answer, (answer.verdict,), lambda _: trajectory_page(answer))
    paper.write(answer, output, call, checkpoints)
