"""`modelkin registry new`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import PLACE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.store.address import Place


@click.command("new", short_help="Make a registry without models, under a key.")
@click.argument("file", type=PLACE, required=False)
@click.option("--private", is_flag=True, help="Make it only if --key-file gives a private key.")
@printing
@calling
def command(file: Place | None, private: bool, output: Output, call: dict[str, Any]) -> None:
    """Make a registry without models in FILE, or where --registry says: under the public key, or the private one of --key-file.

    A registry keeps its key for good, and takes fingerprints of that key alone. `add` and `refresh` fill it. Nothing that is there already
    is written over.

    \b
    Example:
      modelkin key new our.key
      modelkin registry new private.db --private --key-file our.key
    """
    answer = modelkin.new_registry(file, private=private, **call)
    output.line(answer, answer.registry, f"{answer.registry}: a registry without models, under {answer.key}")
