"""`modelkin tree`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.pages.trees.page import tree_page
from modelkin_cli.pages.trees.picture import dot, names, svg
from modelkin_cli.reading_options import printing
from modelkin_cli.reporting import Paper, report_options
from modelkin_registry.trees.trees import DEPTH


@click.command("tree", short_help="Draw registered models as family trees.")
@click.argument("model", required=False)
@click.option("--depth", type=click.IntRange(1, 20), metavar="N", help=f"Steps shown around MODEL. Default: {DEPTH}.")
@click.option("--dot", "as_dot", is_flag=True, help="Print a Graphviz graph.")
@click.option("--svg", "picture", type=FILE, metavar="FILE", help="Write a picture to this file as well.")
@report_options
@printing
@calling
def command(
    model: str | None, depth: int | None, as_dot: bool, picture: Path | None, paper: Paper, output: Output, call: dict[str, Any]
) -> None:
    """Draw the registered models around MODEL, or all of them, as family trees.

    An edge means evidence of descent in the weights; norms alone or a common random start never make one. Directions are hints and say
    why; merges have several parents; parts from elsewhere are named. What folders claim stands beside what the weights show.

    \b
    Example:
      modelkin tree
      modelkin tree llama --depth 1 --svg llama.svg
      modelkin tree --dot > models.dot
      modelkin tree llama --report llama.html
    """
    if as_dot and output.as_json:
        raise click.UsageError("--dot and --json are two forms of one answer; give one.")
    if depth is not None and model is None:
        raise click.UsageError("--depth counts steps around a MODEL; name one.")
    with output.listening() as listener:
        answer = modelkin.tree(model, depth=depth or DEPTH, listener=listener, **call)
    if picture is not None:
        picture.write_text(svg(answer), encoding="utf-8")
    paper.write(answer, output, call)
    if as_dot:
        click.echo(dot(answer), nl=False)
    else:
        output.answer(answer, names(answer), lambda console: tree_page(answer, console))
