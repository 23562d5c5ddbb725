"""`modelkin compare`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console, RenderableType

import modelkin
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.pages.answers import compare_page
from modelkin_cli.pages.exact import aligned_page
from modelkin_cli.reading_options import ReadingCommand, printing, reading, tensors_option
from modelkin_cli.reporting import Paper, report_options
from modelkin_cli.verdicts import VIOLATED, fail_on_option, violations
from modelkin_registry.answers.asked import CompareAnswer


@click.command("compare", cls=ReadingCommand, short_help="Hold two models against each other.")
@click.argument("a")
@click.argument("b")
@click.option("--control", "controls", multiple=True, metavar="C", help="A third model, to show what its figures are. May be repeated.")
@click.option("--exact", is_flag=True, help="Compare number by number too: every byte of both is read, beside that of the controls.")
@click.option(
    "--layers", type=click.Choice(["same", "all"]), default="same", help="With --exact: `all` holds each layer against each other one."
)
@click.option(
    "--align", is_flag=True, help="Work out and undo a change of coordinates (order, signs, rotation), and test what agrees then."
)
@click.option("--resume", type=FILE, metavar="FILE", help="With --exact: keep finished tensors in this journal, and go on where it ends.")
@tensors_option
@fail_on_option
@report_options
@reading
@printing
@calling
def command(
    a: str,
    b: str,
    controls: tuple[str, ...],
    exact: bool,
    layers: Literal["same", "all"],
    align: bool,
    resume: Path | None,
    tensors: bool,
    fail_on: tuple[str, ...],
    paper: Paper,
    output: Output,
    call: dict[str, Any],
) -> None:
    """Hold model A against model B, family by family. Each is a source or the name of a registered model.

    A figure that a control reaches too says nothing of A and B. With --exact both must be weights; memory stays bounded, and with
    --resume an interrupted comparison goes on. --align is for copies whose neurons, heads or channels were re-ordered, turned or rotated.

    \b
    Example:
      modelkin compare models/mystery models/llama --control models/qwen
      modelkin compare models/mystery llama --fail-on descent
      modelkin compare models/mystery models/llama --exact --control models/qwen --resume mystery.journal
      modelkin compare models/mystery models/llama --align
      modelkin compare models/mystery models/llama --report pair.html --language ko
    """
    if not exact and (resume is not None or layers == "all"):
        raise click.UsageError("--resume and --layers are for --exact")
    with output.listening() as listener:
        answer = modelkin.compare(
            a, b, controls=controls, exact=exact, layers=layers, resume=resume, align=align, tensors=tensors, listener=listener, **call
        )
    output.answer(answer, (answer.relation,), lambda console: _pages(answer, console))
    paper.write(answer, output, call, controls)
    names = violations(fail_on, answer.relation, answer.also, answer.components)
    if names := [*names, *(word for word in fail_on if word == answer.verdict)]:
        output.say(f"--fail-on: {', '.join(names)}")
        click.get_current_context().exit(VIOLATED)


def _pages(answer: CompareAnswer, console: Console) -> Iterator[RenderableType]:
    yield from compare_page(answer, console)
    if answer.aligned is not None:
        yield from aligned_page(answer.aligned)
    if answer.exact_summary is not None:
        from modelkin_cli.pages.exact import exact_page  # brings the exact comparison's own imports

        yield from exact_page(answer.exact_summary)
