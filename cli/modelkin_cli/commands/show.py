"""`modelkin show`."""

from __future__ import annotations

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.answers import model_page
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("show", short_help="Show everything known of a registered model.")
@click.argument("name")
@printing
@settings
def command(settings: Settings, name: str, output: Output) -> None:
    """Show everything known of a registered model: where it came from, what it claims, what was read.

    \b
    Example:
      modelkin show llama
    """
    with open_registry(settings, say=output.say) as registry:
        shown = registry.show(name) | {"weighed_claims": registry.weighed_claims(name)}
    output.answer({"contract": CONTRACT, **shown}, (shown["model"],), lambda _: model_page(shown))
