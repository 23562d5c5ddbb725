"""`modelkin calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from rich.table import Table

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.upkeep import Calibration, OwnBackground

TITLE = "Spread between strangers, beyond sketch noise"


@click.command("calibrate", short_help="Measure what strangers in this registry look like.")
@click.option("--reset", is_flag=True, help="Forget what was measured: judge by the backgrounds that come with modelkin again.")
@printing
@calling
def command(reset: bool, output: Output, call: dict[str, Any]) -> None:
    """Measure how far unrelated models of this registry spread, and judge queries and comparisons by that from now on.

    Models of equal shape that show no relation are held against each other, one of each lineage. Families with too few of them, or
    with no more spread than the backgrounds that come with modelkin, keep these: calibrating makes answers more cautious, never less.
    Do it again after many additions.

    \b
    Example:
      modelkin calibrate
      modelkin calibrate --json
    """
    with output.listening() as listener:
        answer = modelkin.calibrate(reset=reset, listener=listener, **call)
    found, used = answer.backgrounds, [one for one in answer.backgrounds if one.used]
    output.answer(answer, (f"{one.channel} {one.family}" for one in used), lambda _: [TITLE, _table(found)] if found else [])
    output.say(_words(answer, reset))


def _words(answer: Calibration, reset: bool) -> str:
    from modelkin_registry.batches.calibration import FEWEST_LINEAGES

    used = sum(one.used for one in answer.backgrounds)
    if used:
        return f"{used} of {len(answer.backgrounds)} backgrounds are this registry's own; the others are those that come with modelkin."
    if any(one.lineages >= FEWEST_LINEAGES for one in answer.backgrounds):
        return "The backgrounds that come with modelkin are used: no spread that was measured well enough is wider."
    why = "" if reset else f" It takes {FEWEST_LINEAGES} models of equal shape that share nothing with each other."
    return f"The backgrounds that come with modelkin are used.{why}"


def _table(found: Sequence[OwnBackground]) -> Table:
    figures = ("measured", "shipped", "pairs", "lineages")
    table = new_table("channel", "family", *figures, "used", right=figures)
    for one in found:
        numbers = f"{one.sd:.3f}", f"{one.shipped:.3f}", str(one.pairs), str(one.lineages)
        table.add_row(one.channel, one.family, *numbers, "measured" if one.used else "shipped")
    return table
