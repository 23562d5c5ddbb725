"""`modelkin add`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.pages import figures
from modelkin_cli.reading_options import ReadingCommand, printing, reading, starter_option
from modelkin_registry.answers.upkeep import Added

TWINS = 3  # models with the same weights that are named
STATUSES = ("added", "unchanged", "failed")


@click.command("add", cls=ReadingCommand, short_help="Index models and keep their fingerprints.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--as", "name", metavar="NAME", help="Name of the model, with one SOURCE. Default: the name of its folder.")
@click.option("--replace", is_flag=True, help="Take the name of a model with other weights; that model is kept as NAME@DIGITS.")
@click.option("--each", "every", is_flag=True, help="Take every model of a folder or Hub id that holds several, or whose subfolders do.")
@starter_option
@reading
@printing
@calling
def command(
    sources: tuple[str, ...], name: str | None, replace: bool, every: bool, starter: bool, output: Output, call: dict[str, Any]
) -> None:
    """Index models and keep their fingerprints in the registry.

    Weights that show kinship to those of the model which has the name are a new revision of it; older revisions are searched too, as
    NAME@DIGITS. Others are refused, unless --replace. A source that cannot be read is reported, and the others are added all the same. With
    --json one object a line. Of a hundred small models and more, several processes read ahead (--threads 1: none).

    \b
    Example:
      modelkin add models/llama models/qwen
      modelkin add models/llama/checkpoint-100 --as llama-100 --level probe
      modelkin add models/loras --each
    """
    if name is not None and (len(sources) > 1 or every):
        raise click.UsageError("--as names one model; give one SOURCE with it, without --each.")
    seen = _Seen(output)
    try:
        with output.listening() as listener:
            answer = modelkin.add(*sources, name=name, replace=replace, every=every, each=seen, starter=starter, listener=listener, **call)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; {seen.stored} stored.") from None
    output.say(", ".join(f"{answer.counts[status]} {status}" for status in STATUSES if status in answer.counts))
    click.get_current_context().exit(answer.exit_code)


def _twins(added: Added) -> str:
    """What is told where other models have the same digests: no more than was read."""
    if not added.same_as:
        return ""
    what = "the same weights as" if added.level == "full" else "what level probe reads is the same as of"
    return f"; {what} {', '.join(map(repr, added.same_as[:TWINS]))}" + (", ..." if len(added.same_as) > TWINS else "")


class _Seen:
    """Prints what became of each source, and counts those that were stored."""

    def __init__(self, output: Output) -> None:
        self.output, self.added = output, 0

    def __call__(self, added: Added) -> None:
        self.added += added.status == "added"
        if added.status == "failed" and not self.output.as_json:
            self.output.fail(f"error: {added.reason}")
            return
        about = f"{figures.count(added.parameters)} parameters, {', '.join(added.components)}, level {added.level}"
        placed = f"{figures.share(added.coverage or 0.0)} placed, {added.seconds:.1f} s"
        self.output.line(added, added.model, f"{added.status:10}{added.model}: {about}, {placed}{_twins(added)}")

    @property
    def stored(self) -> str:
        """`1 model was`, for what is to come after it."""
        return "1 model was" if self.added == 1 else f"{self.added} models were"
