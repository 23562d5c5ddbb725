"""`modelkin rename`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("rename", short_help="Give a registered model another name.")
@click.argument("old")
@click.argument("new")
@printing
@calling
def command(old: str, new: str, output: Output, call: dict[str, Any]) -> None:
    """Give a registered model another name. The old one goes on leading to it.

    \b
    Example:
      modelkin rename llama llama-3
    """
    with output.listening() as listener:
        answer = modelkin.rename(old, new, listener=listener, **call)
    output.line(answer, answer.model, f"{answer.former} is now {answer.model}.")
