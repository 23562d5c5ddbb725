"""`modelkin registry backup`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.words import size
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("backup", short_help="Write a registry into a file, beside its writers.")
@click.argument("file", type=FILE)
@printing
@calling
def command(file: Path, output: Output, call: dict[str, Any]) -> None:
    """Write the registry as it is at this moment into a new file, whole or not at all. Others go on reading and writing meanwhile.

    The file is a registry too, which every verb can be asked about; of a registry in PostgreSQL as well. `restore` brings it back.

    \b
    Example:
      modelkin registry backup backups/2026-11-28.db
    """
    with output.listening() as listener:
        answer = modelkin.backup(file, listener=listener, **call)
    output.line(answer, answer.registry, f"{answer.registry}: {answer.models:,} models of {answer.source}, {size(answer.bytes)}")
