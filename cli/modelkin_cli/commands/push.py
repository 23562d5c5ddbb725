"""`modelkin push`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing


@click.command("push", short_help="Share a registry as a dataset on the Hub.")
@click.argument("dataset", metavar="ORG/NAME")
@click.option("--private/--public", default=True, help="Who may see the dataset, where it is made new. Default: --private.")
@printing
@calling
def command(dataset: str, private: bool, output: Output, call: dict[str, Any]) -> None:
    """Export the registry and upload the file to a dataset repository, made if it is not there. Folders of this machine are left out.

    Log in with `hf auth login`, or set HF_TOKEN.

    \b
    Example:
      modelkin push me/my-registry --public
    """
    with output.listening() as listener:
        answer = modelkin.push(dataset, private=private, listener=listener, **call)
    output.line(answer, answer.dataset, f"{answer.dataset}: {answer.models} models, {answer.bytes:,} bytes, digest {answer.digest}.")
