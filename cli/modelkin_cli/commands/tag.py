"""`modelkin tag`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.text import printable
from modelkin_cli.reading_options import printing

OPTIONS = ("-q", "-h")  # short options, which are no tags


class TagCommand(click.Command):
    """A verb among whose arguments are words that begin with `-`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        taken = [one for one in args if len(one) > 1 and one[0] == "-" and one[1] != "-" and one not in OPTIONS]
        return super().parse_args(ctx, [*(one for one in args if one not in taken), "--", *taken])


@click.command("tag", cls=TagCommand, short_help="Give registered models tags, or take them away.")
@click.argument("words", nargs=-1, required=True, metavar="NAME... [+TAG|-TAG]...")
@printing
@calling
def command(words: tuple[str, ...], output: Output, call: dict[str, Any]) -> None:
    """Give models tags, or take them away; without a tag, tell which they have. NAME may be a pattern (acme/*).

    Tags are the maintainers' own words: `list --where tag=TAG` chooses by them. They stay with a model when it is renamed or gets other
    weights, go with `registry copy`, `registry backup` and `refresh`, and never into an export.

    \b
    Example:
      modelkin tag llama +reviewed -new
      modelkin tag "acme/*" +ours
    """
    names = [one for one in words if one[:1] not in ("+", "-")]
    if not names:
        raise click.UsageError("Name a model, or a pattern of names.")
    add, remove = ([one[1:] for one in words if one[:1] == sign] for sign in "+-")
    with output.listening() as listener:
        answer = modelkin.tag(*names, add=add, remove=remove, listener=listener, **call)
    output.answer(
        answer, answer.models, lambda _: [printable(f"{name}: {' '.join(tags) or 'no tags'}") for name, tags in answer.models.items()]
    )
