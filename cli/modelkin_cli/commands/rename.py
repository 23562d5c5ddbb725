"""`modelkin rename`."""

from __future__ import annotations

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("rename", short_help="Give a registered model another name.")
@click.argument("old")
@click.argument("new")
@printing
@settings
def command(settings: Settings, old: str, new: str, output: Output) -> None:
    """Give a registered model another name. The old one goes on leading to it.

    \b
    Example:
      modelkin rename llama llama-3
    """
    with open_registry(settings, begin=False, say=output.say) as registry:
        registry.rename(old, new)
    output.line({"contract": CONTRACT, "model": new, "former": old}, new, f"{old} is now {new}.")
