"""`modelkin list`."""

from __future__ import annotations

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.tables import models_table
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("list", short_help="List the registered models.")
@printing
@settings
def command(settings: Settings, output: Output) -> None:
    """List the registered models by name.

    \b
    Example:
      modelkin list
    """
    with open_registry(settings, say=output.say) as registry:
        models = registry.list()
        output.say(f"{len(models)} models in {registry.store.path}")
    output.answer(
        {"contract": CONTRACT, "models": models}, (model.model for model in models), lambda _: [models_table(models)] if models else []
    )
