"""`modelkin calibrate`."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.sheets import new_table
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.relations.calibration import FEWEST_LINEAGES

TITLE = "Spread between strangers, beyond sketch noise"


@click.command("calibrate", short_help="Measure what strangers in this registry look like.")
@click.option("--reset", is_flag=True, help="Forget what was measured: judge by the backgrounds that come with modelkin again.")
@printing
@settings
def command(settings: Settings, reset: bool, output: Output) -> None:
    """Measure how far unrelated models of this registry spread, and judge queries and comparisons by that from now on.

    Models of equal shape that show no relation are held against each other, one of each lineage. Families with too few of them, or
    with no more spread than the backgrounds that come with modelkin, keep these: calibrating makes answers more cautious, never less.
    Do it again after many additions.

    \b
    Example:
      modelkin calibrate
      modelkin calibrate --json
    """
    with open_registry(settings, begin=False, say=output.say) as registry:
        found = registry.forget_backgrounds() if reset else registry.calibrate()
        models = registry.store.count()
    used = [one for one in found if one.used]
    answer = {"contract": CONTRACT, "models": models, "backgrounds": found, "calibrated": bool(used)}
    output.answer(answer, (f"{one.channel} {one.family}" for one in used), lambda _: [TITLE, _table(found)] if found else [])
    if used:
        output.say(f"{len(used)} of {len(found)} backgrounds are this registry's own; the others are those that come with modelkin.")
    elif any(one.lineages >= FEWEST_LINEAGES for one in found):
        output.say("The backgrounds that come with modelkin are used: no spread that was measured well enough is wider.")
    else:
        why = "" if reset else f" It takes {FEWEST_LINEAGES} models of equal shape that share nothing with each other."
        output.say(f"The backgrounds that come with modelkin are used.{why}")


def _table(found: Sequence[OwnBackground]) -> Table:
    figures = ("measured", "shipped", "pairs", "lineages")
    table = new_table("channel", "family", *figures, "used", right=figures)
    for one in found:
        numbers = f"{one.sd:.3f}", f"{one.shipped:.3f}", str(one.pairs), str(one.lineages)
        table.add_row(one.channel, one.family, *numbers, "measured" if one.used else "shipped")
    return table
