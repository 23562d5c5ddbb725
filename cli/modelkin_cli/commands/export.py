"""`modelkin export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("export", short_help="Write a registry into one file, to share it.")
@click.argument("file", type=FILE)
@click.option("--paths/--no-paths", default=True, help="Whether folders of this machine, where models were read, are told. Default: yes.")
@printing
@calling
def command(file: Path, paths: bool, output: Output, call: dict[str, Any]) -> None:
    """Write all models of the registry into one file: fingerprints, names, revisions, sources, claims.

    The file is a zip archive whose parts are checked by digest when it is taken in. The same models give the same bytes. A registry with
    a private key is not exported.

    \b
    Example:
      modelkin export models.modelkin-registry --no-paths
    """
    with output.listening() as listener:
        answer = modelkin.export(file, paths=paths, listener=listener, **call)
    output.line(answer, answer.file, f"{answer.file}: {answer.models} models, {answer.bytes:,} bytes, digest {answer.digest}.")
