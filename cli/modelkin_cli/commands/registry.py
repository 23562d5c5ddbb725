"""`modelkin registry`: what is done with registries as a whole, each in a file of its own."""

from __future__ import annotations

import click

from modelkin_cli.commands import registry_backup, registry_copy, registry_new, registry_restore

VERBS = [one.command for one in (registry_new, registry_copy, registry_backup, registry_restore)]


@click.group("registry", short_help="Make an empty registry, copy one, back it up.", commands=VERBS)
def command() -> None:
    """Make registries, copy them from one place to another, back them up and bring them back.

    \b
    Example:
      modelkin registry new private.db --private --key-file our.key
      modelkin registry copy models.db postgresql://our-server/models
      modelkin registry backup backups/2026-11-28.db
    """
