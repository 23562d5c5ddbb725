"""`modelkin list`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.tables import models_table
from modelkin_cli.reading_options import printing


@click.command("list", short_help="List the registered models.")
@printing
@calling
def command(output: Output, call: dict[str, Any]) -> None:
    """List the registered models by name.

    \b
    Example:
      modelkin list
    """
    with output.listening() as listener, modelkin.open(listener=listener, **call) as registry:
        answer = registry.list()
        output.say(f"{len(answer.models)} models in {registry.place}")
    output.answer(answer, (model.model for model in answer.models), lambda _: [models_table(answer.models)] if answer.models else [])
