"""`modelkin push`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.network import hub_client
from modelkin.taking.sharing import SHARED_FILE
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("push", short_help="Share a registry as a dataset on the Hub.")
@click.argument("dataset", metavar="ORG/NAME")
@click.option("--private/--public", default=True, help="Who may see the dataset, where it is made new. Default: --private.")
@printing
@settings
def command(settings: Settings, dataset: str, private: bool, output: Output) -> None:
    """Export the registry and upload the file to a dataset repository, made if it is not there. Folders of this machine are left out.

    Log in with `hf auth login`, or set HF_TOKEN.

    \b
    Example:
      modelkin push me/my-registry --public
    """
    client = hub_client(f"a place for the dataset {dataset}", output.fail, offline=settings.offline)
    with TemporaryDirectory(prefix="modelkin-") as folder:
        file = Path(folder) / SHARED_FILE
        with open_registry(settings, begin=False, say=output.say) as registry:
            models, digest = registry.export(file, paths=False)
        size = file.stat().st_size
        commit = client.push(dataset, file, SHARED_FILE, private=private)
    answer = {"contract": CONTRACT, "dataset": dataset, "commit": commit, "models": models, "bytes": size, "digest": digest}
    output.line(answer, dataset, f"{dataset}: {models} models, {size:,} bytes, digest {digest}.")
