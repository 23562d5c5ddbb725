"""`modelkin doctor`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.tables import findings_table
from modelkin_cli.reading_options import printing
from modelkin_indexer.errors import RegistryError


@click.command("doctor", short_help="Check a registry and mend what is derived.")
@click.option("--repair/--check", default=True, help="Mend what can be made anew from the fingerprints, or only look. Default: --repair.")
@printing
@calling
def command(repair: bool, output: Output, call: dict[str, Any]) -> None:
    """Check everything that the registry holds, and mend what is derived: search rows and the index.

    Fingerprints are never changed. Ends with exit code 4 if anything is broken.

    \b
    Example:
      modelkin doctor
      modelkin doctor --check --json
    """
    answer = modelkin.doctor(repair=repair, **call)
    broken = [finding.check for finding in answer.findings if finding.state == "broken"]
    output.answer(answer, broken, lambda _: [findings_table(answer.findings)])
    output.say(f"{answer.registry} is sound." if answer.clean else f"{answer.registry}: {len(broken)} things are broken.")
    click.get_current_context().exit(0 if answer.clean else RegistryError.exit_code)
