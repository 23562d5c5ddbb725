"""`modelkin registry restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("restore", short_help="Make a registry of a backup.")
@click.argument("file", type=FILE)
@printing
@calling
def command(file: Path, output: Output, call: dict[str, Any]) -> None:
    """Make the registry where --registry says of a backup, which is looked at first. Nothing is written over: move away what is there.

    \b
    Example:
      modelkin registry restore backups/2026-11-28.db --registry models.db
      modelkin registry restore backups/2026-11-28.db --registry postgresql://our-server/models
    """
    answer = modelkin.restore(file, **call)
    output.line(answer, answer.registry, f"{answer.registry}: {answer.models:,} models of {answer.source}")
