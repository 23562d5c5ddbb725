"""`modelkin registry copy`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import PLACE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.store.address import Place


@click.command("copy", short_help="Copy a registry to another place.")
@click.argument("source", type=PLACE, metavar="FROM")
@click.argument("target", type=PLACE, metavar="TO")
@printing
@calling
def command(source: Place, target: Place, output: Output, call: dict[str, Any]) -> None:
    """Copy the registry FROM to the place TO, where there is none yet, or an empty one: each a file or postgresql://host/database.

    Everything goes with it as it is at this moment: models, revisions, claims, history, the journal of the Hub, numbers and times. A copy
    that is stopped leaves an empty registry, and the same call makes it again. What is derived, the index, is built where it is used.

    \b
    Example:
      modelkin registry copy models.db postgresql://our-server/models
      modelkin registry copy "postgresql://our-server/models?schema=audit" audit.db
    """
    answer = modelkin.copy_registry(source, target, **call)
    models = "1 model" if answer.models == 1 else f"{answer.models:,} models"
    output.line(answer, answer.registry, f"{answer.registry}: {models} ({answer.table_rows:,} rows) of {answer.source}")
