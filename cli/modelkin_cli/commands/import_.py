"""`modelkin import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option
from modelkin_registry.answers.shared import STATUSES, Imported


@click.command("import", short_help="Take in the models of such a file.")
@click.argument("file", type=FILE)
@starter_option
@printing
@calling
def command(file: Path, starter: bool, output: Output, call: dict[str, Any]) -> None:
    """Take in all models of a file that `modelkin export` wrote, apart from those here and marked with the file's name.

    What the file says is its sender's word: it displaces, dates and renames nothing here. Weights that a model of the same name has here
    are passed over; a model with other weights under a name of one here comes in under that name and the start of its digest. A file that
    is not sound changes nothing.

    \b
    Example:
      modelkin import models.modelkin-registry
    """
    with output.listening() as listener:
        answer = modelkin.import_(file, starter=starter, listener=listener, **call)
    tell_taken(output, answer)


def tell_taken(output: Output, answer: Imported) -> None:
    """What became of the models of a shared file."""
    for one in answer.renamed:
        output.say(f"{one.model} of the file is {one.stored_as} here.")
    counts = {status: getattr(answer, status) for status in STATUSES}
    told = ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "no models"
    output.line(answer, answer.file, f"{answer.file}: {told}; digest {answer.digest}.")
