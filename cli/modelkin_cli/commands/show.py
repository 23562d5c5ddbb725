"""`modelkin show`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.models import model_page
from modelkin_cli.reading_options import printing


@click.command("show", short_help="Show everything known of a registered model.")
@click.argument("name")
@printing
@calling
def command(name: str, output: Output, call: dict[str, Any]) -> None:
    """Show everything known of a registered model: where it came from, what it claims, what was read.

    \b
    Example:
      modelkin show llama
    """
    with output.listening() as listener:
        answer = modelkin.show(name, listener=listener, **call)
    output.answer(answer, (answer.model,), lambda _: model_page(answer))
