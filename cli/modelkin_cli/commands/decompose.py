"""`modelkin decompose`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages.merge import merge_page
from modelkin_cli.reading_options import ReadingCommand, printing, reading
from modelkin_cli.reporting import Paper, report_options
from modelkin_registry.answers.asked import DecomposeAnswer


@click.command("decompose", cls=ReadingCommand, short_help="Take a merge apart: its parents, and in what proportion.")
@click.argument("source")
@click.argument("more", nargs=-1, metavar="[PARENT]...")
@click.option("--parents", multiple=True, metavar="A B ...", help="Parents: sources or registered models. Default: they are sought.")
@click.option("--base", metavar="NAME", help="The model that the parents were trained from, if you know it.")
@click.option("--recipe", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a recipe for mergekit there.")
@report_options
@reading
@printing
@calling
def command(
    source: str,
    more: tuple[str, ...],
    parents: tuple[str, ...],
    base: str | None,
    recipe: Path | None,
    paper: Paper,
    output: Output,
    call: dict[str, Any],
) -> None:
    """Find which registered models SOURCE was merged from, with weights, by component and layer, and what they leave.

    Weights sum to one. A model that was only trained near others is not called a merge.

    \b
    Example:
      modelkin decompose models/mystery --recipe mystery.yml
      modelkin decompose models/mystery --parents llama-chat llama-code --base llama
      modelkin decompose models/mystery --report mystery.html
    """
    with output.listening() as listener:
        answer = modelkin.decompose(source, parents=(*parents, *more), base=base, listener=listener, **call)
    parents_found = answer.merge.parents if answer.merge else ()
    output.answer(answer, (parent.model for parent in parents_found), lambda console: merge_page(answer, console))
    paper.write(answer, output, call, (*parents, *more))
    if recipe:
        _write(recipe, answer, output)


def _write(path: Path, answer: DecomposeAnswer, output: Output) -> None:
    if answer.recipe is None:
        output.fail(f"{path}: not written: no recipe makes this model again.")
        return
    path.write_text(answer.recipe, encoding="utf-8")
    output.say(f"{path}: a recipe for mergekit. It names registered models; put paths or Hub ids there.")
