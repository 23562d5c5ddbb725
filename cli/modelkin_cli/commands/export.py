"""`modelkin export`."""

from __future__ import annotations

from pathlib import Path

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import FILE, settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("export", short_help="Write a registry into one file, to share it.")
@click.argument("file", type=FILE)
@click.option("--paths/--no-paths", default=True, help="Whether folders of this machine, where models were read, are told. Default: yes.")
@printing
@settings
def command(settings: Settings, file: Path, paths: bool, output: Output) -> None:
    """Write all models of the registry into one file: fingerprints, names, revisions, sources, claims.

    The file is a zip archive whose parts are checked by digest when it is taken in. The same models give the same bytes. A registry with
    a private key is not exported.

    \b
    Example:
      modelkin export models.modelkin-registry --no-paths
    """
    if file.exists():
        raise click.UsageError(f"{file} is there already. Give a new name.")
    with open_registry(settings, say=output.say) as registry:
        models, digest = registry.export(file, paths=paths)
    size = file.stat().st_size
    answer = {"contract": CONTRACT, "file": str(file), "models": models, "bytes": size, "digest": digest}
    output.line(answer, str(file), f"{file}: {models} models, {size:,} bytes, digest {digest}.")
