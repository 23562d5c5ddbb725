"""`modelkin verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.evidencing import REPRODUCED
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.pages.checks.verified import verified_page
from modelkin_cli.reading_options import ReadingCommand, printing, reading
from modelkin_cli.verdicts import VIOLATED


@click.command("verify", cls=ReadingCommand, short_help="Check such a file: make every number of it again.")
@click.argument("bundle", type=FILE, metavar="FILE")
@click.argument("more", nargs=-1, metavar="[MODEL]...")
@click.option("--weights", multiple=True, metavar="A B ...", help="Weights of A, B and the controls, in the file's order: read again too.")
@reading
@printing
@calling
def command(bundle: Path, more: tuple[str, ...], weights: tuple[str, ...], output: Output, call: dict[str, Any]) -> None:
    """Make every number of FILE again, a bundle that `modelkin evidence` wrote, and tell where it differs.

    From its fingerprints no secret is needed, whatever key they were made with. With --weights the models are read again, under the same
    key: a private one has to be given. Ends with exit code 1 if anything differs, and with 3 if the file is damaged.

    \b
    Example:
      modelkin verify pair.json
      modelkin verify pair.json --weights models/mystery models/llama
    """
    with output.listening() as listener:
        answer = modelkin.verify(bundle, weights=(*weights, *more), listener=listener, **call)
    output.answer(answer, (answer.verdict,), lambda _: verified_page(answer))
    if answer.verdict != REPRODUCED:
        click.get_current_context().exit(VIOLATED)
