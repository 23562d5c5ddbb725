"""`modelkin list`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.listing import COLUMNS, listing_page
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.upkeep import Listing
from modelkin_registry.store.filters import FIELDS, SORTS

WHERE = "Only models that meet this condition, FIELD=VALUE (or != > >= < <=). May be given several times: all must hold."
SINCE = "Only models that came, or got a new revision, on this date or later."


def _columns(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(value.split(",")) if value else ()
    if wrong := [name for name in names if name not in COLUMNS]:
        raise click.BadParameter(f"{wrong[0]!r} is no column. Choose from {', '.join(COLUMNS)}.")
    return names


class ListCommand(click.Command):
    """A verb whose help ends with the fields of its conditions."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"Fields of conditions: {', '.join(FIELDS)}. Columns: {', '.join(COLUMNS)}.")


@click.command("list", cls=ListCommand, short_help="List the registered models.")
@click.option("--where", multiple=True, metavar="CONDITION", help=WHERE)
@click.option("--since", metavar="DATE", help=SINCE)
@click.option("--sort", type=click.Choice(SORTS), default="name", metavar="FIELD", help=f"{', '.join(SORTS)}. Default: name.")
@click.option("--reverse", is_flag=True, help="The other way round: texts go from A, numbers and dates from the largest.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="List so many at most.")
@click.option("--columns", callback=_columns, metavar="NAMES", help="Columns of the table, with commas between them.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@click.option("--stats", is_flag=True, help="Print only what they come to, and what the registry's rows take.")
@printing
@calling
def command(output: Output, call: dict[str, Any], columns: tuple[str, ...], **wishes: Any) -> None:
    """List the registered models: all of them by name, or those that meet conditions, in another order.

    In a text * stands for any letters and ? for one; nothing behind = means that there is none. Numbers take k, M, G (or B) and T. Dates
    are ISO 8601 or the beginning of one. Adapters alone count by the numbers that they hold.

    \b
    Example:
      modelkin list
      modelkin list --where author=acme --where "parameters>1B" --sort parameters
      modelkin list --where tag=reviewed --since 2026-11 --columns model,family,tags,note
      modelkin list --where family=llama --stats
    """
    if wishes["count"] and wishes["stats"]:
        raise click.UsageError("--stats has the number too; give one of --count and --stats.")
    with output.listening() as listener:
        answer = modelkin.list(**wishes, listener=listener, **call)
    if wishes["count"] and not output.as_json:
        click.echo(answer.found)
        return
    output.say(_words(answer))
    output.answer(answer, (model.model for model in answer.models), lambda _: listing_page(answer, columns))


def _words(answer: Listing) -> str:
    """`3 models in r.db`."""
    shown = f"{len(answer.models)} of " if answer.models and len(answer.models) < answer.found else ""
    return f"{shown}{answer.found} models in {answer.registry}"
