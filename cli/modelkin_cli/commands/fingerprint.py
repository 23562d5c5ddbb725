"""`modelkin fingerprint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.words import size
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import ReadingCommand, printing, reading


@click.command("fingerprint", cls=ReadingCommand, short_help="Write a model's fingerprint to a file.")
@click.argument("source")
@click.option(
    "--output", "-o", "target", type=FILE, required=True, metavar="FILE", help=f"Where to write it, a name ending in {FINGERPRINT_SUFFIX}."
)
@reading
@printing
@calling
def command(source: str, target: Path, output: Output, call: dict[str, Any]) -> None:
    """Write the fingerprint of SOURCE to one file, from which it can be queried, compared and added without the weights.

    \b
    Example:
      modelkin fingerprint models/mystery -o mystery.modelkin
      modelkin query mystery.modelkin
    """
    if target.suffix != FINGERPRINT_SUFFIX:
        raise click.BadParameter(f"{target}: the name of a fingerprint ends in {FINGERPRINT_SUFFIX}.", param_hint="-o")
    if not target.parent.is_dir():
        raise click.BadParameter(f"{target}: there is no such folder.", param_hint="-o")
    with output.listening() as listener:
        answer = modelkin.fingerprint(source, target, listener=listener, **call)
    output.line(answer, answer.file, f"{answer.file}: {size(answer.bytes)}, level {answer.level}")
