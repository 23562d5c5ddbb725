"""`modelkin audit`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.checks.audit import audit_page
from modelkin_cli.reading_options import ReadingCommand, printing, reading
from modelkin_cli.verdicts import VIOLATED
from modelkin_registry.answers.parts import AUDITED


@click.command("audit", cls=ReadingCommand, short_help="Tell what in a file is unusual for a model of its kind.")
@click.argument("source")
@click.option("--fail-on", multiple=True, type=click.Choice(list(AUDITED)), metavar="CODE", help="End with exit code 1 if this is found.")
@reading
@printing
@calling
def command(source: str, fail_on: tuple[str, ...], output: Output, call: dict[str, Any]) -> None:
    """Tell what in SOURCE is unusual for a model of its kind, each with its tensors, bytes and numbers.

    What was left out and why, tensors that no loader would use, sizes that differ from config.json's, NaN and zeros, equal layers, and
    weights whose scales or directions are not those that training leaves. These are facts, not reasons; findings fail a call only with
    --fail-on, whose codes are those of the answer. No registry is asked.

    \b
    Example:
      modelkin audit models/mystery
      modelkin audit models/mystery --fail-on not-finite --json
    """
    with output.listening() as listener:
        answer = modelkin.audit(source, listener=listener, **call)
    codes = list(dict.fromkeys(one.code for one in answer.findings))
    output.answer(answer, codes, lambda console: audit_page(answer, console))
    if unwanted := [code for code in codes if code in fail_on]:
        output.say(f"--fail-on: {', '.join(unwanted)}")
        click.get_current_context().exit(VIOLATED)
