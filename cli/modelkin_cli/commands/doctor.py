"""`modelkin doctor`."""

from __future__ import annotations

import click

from modelkin.registries import examine_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.tables import findings_table
from modelkin_cli.reading_options import printing
from modelkin_indexer.errors import RegistryError
from modelkin_registry.answers.contract import CONTRACT


@click.command("doctor", short_help="Check a registry and mend what is derived.")
@click.option("--repair/--check", default=True, help="Mend what can be made anew from the fingerprints, or only look. Default: --repair.")
@printing
@settings
def command(settings: Settings, repair: bool, output: Output) -> None:
    """Check everything that the registry holds, and mend what is derived: search rows and the index.

    Fingerprints are never changed. Ends with exit code 4 if anything is broken.

    \b
    Example:
      modelkin doctor
      modelkin doctor --check --json
    """
    path, findings = examine_registry(settings, repair=repair)
    broken = [finding for finding in findings if finding.state == "broken"]
    answer = {"contract": CONTRACT, "findings": findings, "clean": not broken}
    output.answer(answer, (finding.check for finding in broken), lambda _: [findings_table(findings)])
    output.say(f"{path}: {len(broken)} things are broken." if broken else f"{path} is sound.")
    click.get_current_context().exit(RegistryError.exit_code if broken else 0)
