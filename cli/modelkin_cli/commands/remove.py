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

NAMED = 20  # models that a person is asked about by name


@click.command("remove", short_help="Forget registered models.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--dry-run", is_flag=True, help="Tell which models would be forgotten, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can answer.")
@printing
@calling
def command(names: tuple[str, ...], dry_run: bool, yes: bool, output: Output, call: dict[str, Any]) -> None:
    """Forget registered models and everything known of them: all of those named, or none if one is not there. NAME may be a pattern of
    names, in which * stands for any letters and ? for one.

    \b
    Example:
      modelkin remove llama-100 --yes
      modelkin remove "acme/*" --dry-run
    """
    with output.listening() as listener:
        answer = modelkin.remove(*names, dry_run=dry_run, sure=None if yes else _confirmed, listener=listener, **call)
    if not answer.removed:
        output.say("Nothing was removed.")
        return
    said = "Would remove" if answer.dry_run else "Removed"
    output.answer(answer, answer.removed, lambda _: [f"{said} {printable(model)}." for model in answer.removed])


def _confirmed(models: Sequence[str]) -> bool:
    if not somebody_is_there():
        raise click.UsageError("remove asks before it forgets, and nobody can answer here. Add --yes.")
    some = ", ".join(models[:NAMED]) + (f" and {len(models) - NAMED:,} more" if len(models) > NAMED else "")
    return click.confirm(f"Forget {printable(some)}?", err=True)


def somebody_is_there() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin.isatty()
