"""`modelkin query`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import ReadingCommand, printing, reading, starter_option, tensors_option
from modelkin_cli.reporting import Paper, report_options
from modelkin_cli.verdicts import VIOLATED, fail_on_option, violations
from modelkin_registry.answers.asked import SHOWN, QueryAnswer

WHERE = (
    "Ask only models that meet this condition, FIELD=VALUE (or != > >= < <=), as if there were no others. May be given several times. "
    "Fields as in `modelkin list`."
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@click.command("query", cls=ReadingCommand, short_help="Find the nearest relatives of a model.")
@click.argument("source")
@click.option("-k", type=click.IntRange(1), default=SHOWN, metavar="N", help=f"Relatives shown at most. Default: {SHOWN}.")
@click.option("--all", "show_all", is_flag=True, help="Show the nearest models without evidence too.")
@click.option("--exact", is_flag=True, help="Hold the model against every registered one, not only those that the index finds.")
@click.option("--confirm", is_flag=True, help="Read the weights of the nearest models again, under a key drawn for this question alone.")
@click.option("--where", multiple=True, metavar="CONDITION", help=WHERE)
@tensors_option
@starter_option
@fail_on_option
@report_options
@reading
@printing
@calling
def command(
    source: str,
    k: int,
    show_all: bool,
    exact: bool,
    confirm: bool,
    where: tuple[str, ...],
    tensors: bool,
    starter: bool,
    fail_on: tuple[str, ...],
    paper: Paper,
    output: Output,
    call: dict[str, Any],
) -> None:
    """Find the registered models that SOURCE is closest to, family by family, with how sure that is.

    SOURCE may also be a fingerprint that `modelkin fingerprint` wrote (.modelkin), or a Hub id (org/name, org/name@revision): of that only
    some rows of each matrix are fetched, and it says what --level full would add and cost.

    \b
    Example:
      modelkin query models/mystery
      modelkin query org/name
      modelkin query models/mystery --where author=acme --where "parameters<10B"
      modelkin query models/mystery --fail-on descent --json
      modelkin query models/mystery --report mystery.html
    """
    with output.listening() as listener:
        wishes: dict[str, Any] = {"k": k, "show_all": show_all, "exact": exact, "tensors": tensors, "confirm": confirm}
        answer = modelkin.query(source, **wishes, where=where, starter=starter, listener=listener, **call)
    names = (relative.model for relative in answer.relatives if not relative.declared)
    output.answer(answer, names, lambda console: query_page(answer, console))
    paper.write(answer, output, call)
    _judge(answer, fail_on, output)


def _judge(answer: QueryAnswer, fail_on: tuple[str, ...], output: Output) -> None:
    found = [(r.model, violations(fail_on, r.relation, r.also, r.components)) for r in answer.relatives]
    for model, names in ((model, names) for model, names in found if names):
        output.say(f"--fail-on: {', '.join(names)} ({model})")
    if answer.verdict in fail_on:
        output.say(f"--fail-on: {answer.verdict}")
    if answer.verdict in fail_on or any(names for _, names in found):
        click.get_current_context().exit(VIOLATED)


def query_page(answer: QueryAnswer, console: Console) -> Iterator[RenderableType]:
    """What people read."""
    from modelkin_cli.pages.answers import query_page as page  # brings rich, which JSON and names do without

    return page(answer, console)
