"""`modelkin screen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.wishes import TIME_LIMIT
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.pages.checks.screening import not_clear, said, summary
from modelkin_cli.reading_options import ReadingCommand, printing, reading, starter_option
from modelkin_cli.reporting import Paper, report_options, typed
from modelkin_registry.screening.deciding import exit_code
from modelkin_registry.screening.results import OUTCOMES

LIMIT = "For reading one submission; one that takes longer is unreadable, and the others go on."
SHOW_POLICY = "Print the policy that is used where none is given, and end."


def _show_policy(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from modelkin_data.policy import default_policy

        click.echo(default_policy(), nl=False)
        ctx.exit()


@click.command("screen", cls=ReadingCommand, short_help="Screen a batch of submissions by a policy.")
@click.argument("manifest", type=FILE, metavar="LIST|FOLDER")
@click.option("--out", type=FILE, required=True, metavar="FOLDER", help="Where what is measured is kept, and the answer written.")
@click.option("--policy", type=FILE, metavar="FILE", help="A policy in TOML. Default: the one that --show-policy prints.")
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Processes. Default: one a processor, fewer for small batches.")
@click.option("--time-limit", type=click.FloatRange(1, 10**7), default=TIME_LIMIT, show_default=True, metavar="SECONDS", help=LIMIT)
@click.option("--fail-on", multiple=True, type=click.Choice(OUTCOMES), metavar="OUTCOME", help="In place of the policy's fail_on.")
@click.option("--evidence", is_flag=True, help="Write a bundle for each pair that a finding rests on, which `modelkin verify` checks.")
@click.option("--show-policy", is_flag=True, is_eager=True, expose_value=False, callback=_show_policy, help=SHOW_POLICY)
@starter_option
@report_options
@reading
@printing
@calling
def command(
    manifest: Path,
    out: Path,
    policy: Path | None,
    jobs: int | None,
    time_limit: float,
    fail_on: tuple[str, ...],
    evidence: bool,
    starter: bool,
    paper: Paper,
    output: Output,
    call: dict[str, Any],
) -> None:
    """Screen a batch of submissions: each beside the registry, all against one another, and what each declares beside what weights show.

    LIST is CSV or JSON lines with a name and a source for each submission, and what it declares; of a FOLDER each entry is one. Outcomes
    are clear, flagged (a rule of the policy meets a measured relation), inconclusive and unreadable. Stopped anywhere, it goes on with the
    next call that has the same --out. With --json one object a line. Nothing is registered.

    \b
    Example:
      modelkin screen submissions.csv --out screening
      modelkin screen --show-policy
      modelkin screen submissions.csv --out screening --evidence --report screening.html
      modelkin screen submissions.jsonl --policy policy.toml --out screening --key-file our.key --json
    """
    try:
        with output.listening() as listener:
            kind: dict[str, Any] = {"out": out, "policy": policy, "jobs": jobs, "starter": starter, "listener": listener}
            kind |= {"time_limit": time_limit, "evidence": evidence, "command": typed()}
            answer = modelkin.screen(manifest, each=lambda one: output.line(one, not_clear(one), said(one)), **kind, **call)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; what is measured stays in {out}, and the next call goes on.") from None
    paper.write(answer, output, call)
    for words in summary(answer, out):
        output.say(words)
    click.get_current_context().exit(exit_code(answer.results, fail_on) if fail_on else answer.exit_code)
