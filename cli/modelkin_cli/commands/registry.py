"""`modelkin registry`: what is done with registries as a whole, each in a file of its own."""

from __future__ import annotations

import click

from modelkin_cli.commands import registry_copy, registry_new


@click.group("registry", short_help="Make an empty registry, or copy one.", commands=[registry_new.command, registry_copy.command])
def command() -> None:
    """Make registries, and copy them from one place to another.

    \b
    Example:
      modelkin registry new private.db --private --key-file our.key
      modelkin registry copy models.db postgresql://our-server/models
    """
