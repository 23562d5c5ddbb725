"""`modelkin fingerprint`."""

from __future__ import annotations

from pathlib import Path

import click

from modelkin.settings import Settings
from modelkin.sources.naming import FINGERPRINT_SUFFIX
from modelkin.sources.reading import read_source
from modelkin.wishes import HowToRead
from modelkin.words import size
from modelkin_cli.options import FILE, settings
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, reading
from modelkin_registry.answers.contract import CONTRACT


@click.command("fingerprint", short_help="Write a model's fingerprint to a file.")
@click.argument("source")
@click.option(
    "--output", "-o", "target", type=FILE, required=True, metavar="FILE", help=f"Where to write it, a name ending in {FINGERPRINT_SUFFIX}."
)
@reading
@printing
@settings
def command(settings: Settings, source: str, target: Path, how: HowToRead, output: Output) -> None:
    """Write the fingerprint of SOURCE to one file, from which it can be queried, compared and added without the weights.

    \b
    Example:
      modelkin fingerprint models/mystery -o mystery.modelkin
      modelkin query mystery.modelkin
    """
    if target.suffix != FINGERPRINT_SUFFIX:
        raise click.BadParameter(f"{target}: the name of a fingerprint ends in {FINGERPRINT_SUFFIX}.", param_hint="-o")
    with output.listening() as listener:
        found = read_source(source, how, listener)
    _write(target, data := found.fingerprint.to_bytes())
    about = found.fingerprint.about
    facts = {"level": about.level, "spec": about.spec, "key": about.key, "parameters": about.parameters, "coverage": about.coverage}
    words = f"{target}: {size(len(data))}, level {about.level}"
    output.line({"contract": CONTRACT, "source": source, "file": str(target), **facts, "bytes": len(data)}, str(target), words)


def _write(target: Path, data: bytes) -> None:
    """Whole or not at all."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise click.BadParameter(f"{target}: cannot be written ({error.strerror}).", param_hint="-o") from error
