"""`modelkin evidence`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.evidencing import FORMS
from modelkin.words import size
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import ReadingCommand, printing, reading
from modelkin_cli.reporting import typed


@click.command("evidence", cls=ReadingCommand, short_help="Write a comparison into a file that others can check.")
@click.argument("a")
@click.argument("b")
@click.option("--output", "-o", "target", type=FILE, required=True, metavar="FILE", help="Where to write it.")
@click.option("--control", "controls", multiple=True, metavar="C", help="A third model, to show what its figures are. May be repeated.")
@click.option("--as", "forms", multiple=True, type=click.Choice(list(FORMS)), help="Write this beside it too. May be repeated.")
@reading
@printing
@calling
def command(a: str, b: str, target: Path, controls: tuple[str, ...], forms: tuple[str, ...], output: Output, call: dict[str, Any]) -> None:
    """Hold model A against model B, and write the answer with all that it rests on into one file.

    The file has both fingerprints, so that `modelkin verify` makes every number again without the weights; digests of the files that
    were read; versions; and the id of the key, never the key. With --as other tools are told what it says, in a file beside it: a
    CycloneDX ML-BOM, SPDX 3, an in-toto statement to sign, the head of a model card.

    \b
    Example:
      modelkin evidence models/mystery models/llama --control models/qwen -o pair.json
      modelkin evidence models/mystery models/llama --as cyclonedx --as in-toto -o pair.json
    """
    if not target.parent.is_dir():
        raise click.BadParameter(f"{target}: there is no such folder.", param_hint="-o")
    with output.listening() as listener:
        answer = modelkin.evidence(a, b, target, controls=controls, forms=forms, command=typed(), listener=listener, **call)
    output.line(answer, answer.file, f"{answer.file}: {size(answer.bytes)}, sha256 {answer.sha256}")
    output.say(answer.explanation[0])
    for file in answer.beside.values():
        output.say(f"{file}: written.")
