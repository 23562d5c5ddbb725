"""`modelkin remove`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.text import printable
from modelkin_cli.reading_options import printing


@click.command("remove", short_help="Forget registered models.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can answer.")
@printing
@calling
def command(names: tuple[str, ...], yes: bool, output: Output, call: dict[str, Any]) -> None:
    """Forget registered models and everything known of them: all of those named, or none if one is not there.

    \b
    Example:
      modelkin remove llama-100 --yes
    """
    with output.listening() as listener:
        answer = modelkin.remove(*names, sure=None if yes else _confirmed, listener=listener, **call)
    if not answer.removed:
        output.say("Nothing was removed.")
        return
    output.answer(answer, answer.removed, lambda _: [f"Removed {printable(model)}." for model in answer.removed])


def _confirmed(models: Sequence[str]) -> bool:
    if not somebody_is_there():
        raise click.UsageError("remove asks before it forgets, and nobody can answer here. Add --yes.")
    return click.confirm(f"Forget {printable(', '.join(models))}?", err=True)


def somebody_is_there() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin.isatty()
