"""`modelkin import`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import FILE, settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option
from modelkin_registry.answers.contract import CONTRACT
from modelkin_registry.sharing.taking_in import TakenIn

STATUSES = ("added", "merged", "unchanged")


@click.command("import", short_help="Take in the models of such a file.")
@click.argument("file", type=FILE)
@starter_option
@printing
@settings
def command(settings: Settings, file: Path, starter: bool, output: Output) -> None:
    """Take in all models of a file that `modelkin export` wrote, apart from those here and marked with the file's name.

    What the file says is its sender's word: it displaces, dates and renames nothing here. Weights that a model of the same name has here
    are passed over; a model with other weights under a name of one here comes in under that name and the start of its digest. A file that
    is not sound changes nothing.

    \b
    Example:
      modelkin import models.modelkin-registry
    """
    with open_registry(settings, create=True, begin=starter, say=output.say) as registry:
        taken, digest = registry.take_in(file)
    tell_taken(output, str(file), taken, digest)


def tell_taken(output: Output, file: str, taken: Sequence[TakenIn], digest: str) -> None:
    """What became of the models of a shared file."""
    counts = {status: sum(one.status == status for one in taken) for status in STATUSES}
    renamed = [{"model": one.given, "stored_as": one.name} for one in taken if one.name != one.given]
    for one in renamed:
        output.say(f"{one['model']} of the file is {one['stored_as']} here.")
    answer = {"contract": CONTRACT, "file": file, "models": len(taken), **counts, "renamed": renamed, "digest": digest}
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "no models"
    output.line(answer, file, f"{file}: {told}; digest {digest}.")
