"""`modelkin pull`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.shared_datasets import SHARED_FILE
from modelkin_cli.commands.import_ import tell_taken
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option
from modelkin_indexer.hub.client import HubClient


@click.command("pull", short_help="Take in a registry that is shared there.")
@click.argument("dataset", metavar="ORG/NAME[@REVISION]")
@starter_option
@printing
@settings
def command(settings: Settings, dataset: str, starter: bool, output: Output) -> None:
    """Download the registry that `modelkin push` uploaded to a dataset repository, and take it in as `modelkin import` does.

    \b
    Example:
      modelkin pull somebody/their-registry
    """
    name, _, revision = dataset.partition("@")
    with TemporaryDirectory(prefix="modelkin-") as folder:
        file = Path(folder) / SHARED_FILE
        HubClient().pull(name, revision or "main", SHARED_FILE, file)
        with open_registry(settings, create=True, begin=starter, say=output.say) as registry:
            taken, digest = registry.take_in(file, sender=dataset)
    tell_taken(output, dataset, taken, digest)
