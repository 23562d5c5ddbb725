"""`modelkin pull`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.commands.import_ import tell_taken
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option


@click.command("pull", short_help="Take in a registry that is shared there.")
@click.argument("dataset", metavar="ORG/NAME[@REVISION]")
@starter_option
@printing
@calling
def command(dataset: str, starter: bool, output: Output, call: dict[str, Any]) -> None:
    """Download the registry that `modelkin push` uploaded to a dataset repository, and take it in as `modelkin import` does.

    \b
    Example:
      modelkin pull somebody/their-registry
    """
    with output.listening() as listener:
        answer = modelkin.pull(dataset, starter=starter, listener=listener, **call)
    tell_taken(output, answer)
