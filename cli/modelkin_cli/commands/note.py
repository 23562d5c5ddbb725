"""`modelkin note`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("note", short_help="Put a note on a registered model.")
@click.argument("name")
@click.argument("text")
@printing
@calling
def command(name: str, text: str, output: Output, call: dict[str, Any]) -> None:
    """Put a note on a model, in the place of the one that it had; an empty TEXT takes it away. `show` and `list` tell it.

    Like tags, notes stay with the model and never go into an export.

    \b
    Example:
      modelkin note llama "asked its makers on 28 November; no answer yet"
      modelkin note llama ""
    """
    with output.listening() as listener:
        answer = modelkin.note(name, text, listener=listener, **call)
    output.line(answer, answer.model, f"{answer.model}: {answer.note or 'no note'}")
