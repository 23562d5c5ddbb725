"""`modelkin key`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

import modelkin
from modelkin_cli.options import FILE
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("key", short_help="Make, show or rotate a private key.")
@click.argument("action", type=click.Choice(["new", "show", "rotate"]))
@click.argument("file", type=FILE)
@printing
def command(action: Literal["new", "show", "rotate"], file: Path, output: Output) -> None:
    """Make, show or rotate the private key in FILE.

    Whoever knows a registry's key can change a model, in what the key looks at, so that it is not found there; the public key is known to
    all. `new` draws a key into a file that only you may read, `rotate` another one into the same file and keeps the former beside it.
    Neither the key nor a part of it is ever printed: its name is what fingerprints carry, and its commitment, published before a call for
    submissions, binds you to the key, which you publish after it.

    \b
    Example:
      modelkin key new our.key
      modelkin --registry private.db --key-file our.key add models/llama
    """
    answer = modelkin.key(action, file)
    words = f"{answer.file}: {answer.key}, commitment {answer.commitment}"
    output.line(answer, answer.key, words + (f"; the former key is in {answer.former}" if answer.former else ""))
