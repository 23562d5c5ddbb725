"""`modelkin compare`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import click
from rich.console import RenderableType

from modelkin.settings import Settings
from modelkin.sides import judge_of, sides_of, structure_of_sides
from modelkin.wishes import ExactWishes, HowToRead
from modelkin_cli.options import FILE, settings
from modelkin_cli.output import Output
from modelkin_cli.pages.answers import compare_page
from modelkin_cli.reading_options import printing, reading
from modelkin_cli.verdicts import VIOLATED, fail_on_option, violations
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.explanation.compare import compare_fingerprints


@click.command("compare", short_help="Hold two models against each other.")
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
@fail_on_option
@reading
@printing
@settings
def command(
    settings: Settings,
    a: str,
    b: str,
    controls: tuple[str, ...],
    exact: bool,
    layers: str,
    align: bool,
    resume: Path | None,
    fail_on: tuple[str, ...],
    how: HowToRead,
    output: Output,
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
    """
    if not exact and (resume is not None or layers == "all"):
        raise click.UsageError("--resume and --layers are for --exact")
    with output.progress() as begin:
        read = sides_of((a, b, *controls), how, settings, begin, output.say)
    sides = {name: side.fingerprint for name, side in read.items()}
    third = {name: sides[name] for name in controls}
    claims = {name: read[name].claims for name in (a, b)}
    judge = judge_of(tuple(sides), settings, output.say)
    answer = compare_fingerprints(sides[a], sides[b], a_name=a, b_name=b, controls=third, judge=judge, claims=claims)
    answer = replace(answer, structure=structure_of_sides(read[a], read[b], b))
    more: Iterable[RenderableType] = ()
    aligned: Iterable[RenderableType] = ()
    if align:
        from modelkin.exact import add_aligned  # brings scipy
        from modelkin_cli.pages.aligned import aligned_page

        answer = add_aligned(answer, a, b, how, output.say)
        aligned = aligned_page(answer.aligned or {})
    if exact:
        answer, more = _exactly(answer, (a, b, *controls), how, ExactWishes(resume, layers == "all"), output)
    output.answer(answer, (answer.relation,), lambda console: chain(compare_page(answer, sides[a].about.layers, console), aligned, more))
    names = violations(fail_on, answer.relation, answer.also, answer.components)
    if names := [*names, *(word for word in fail_on if word == answer.verdict)]:
        output.say(f"--fail-on: {', '.join(names)}")
        click.get_current_context().exit(VIOLATED)


def _exactly(
    answer: CompareAnswer, names: tuple[str, ...], how: HowToRead, wishes: ExactWishes, output: Output
) -> tuple[CompareAnswer, Iterable[RenderableType]]:
    """The answer with the exact comparison, and its tables."""
    from modelkin.exact import add_exact  # brings scipy, a tenth of a second that other comparisons do without
    from modelkin_cli.pages.exact import exact_page

    with output.progress() as begin:
        answer = add_exact(answer, names[0], names[1], names[2:], how, wishes, begin, output.say)
    return answer, exact_page(answer.exact_summary or {}) if answer.exact else ()
