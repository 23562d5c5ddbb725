"""`modelkin add`."""

from __future__ import annotations

import click

from modelkin.adding import Batch
from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.wishes import HowToRead
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages import figures
from modelkin_cli.reading_options import printing, reading, starter_option
from modelkin_registry.answers.contract import Added

INTERRUPTED = 130


@click.command("add", short_help="Index models and keep their fingerprints.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--as", "name", metavar="NAME", help="Name of the model, with one SOURCE. Default: the name of its folder.")
@click.option("--replace", is_flag=True, help="Take the name of a model with other weights; that model is kept as NAME@DIGITS.")
@starter_option
@reading
@printing
@settings
def command(
    settings: Settings,
    sources: tuple[str, ...],
    name: str | None,
    replace: bool,
    starter: bool,
    how: HowToRead,
    output: Output,
) -> None:
    """Index models and keep their fingerprints in the registry.

    Weights that show kinship to those of the model which has the name are a new revision of it; older revisions are searched too, as
    NAME@DIGITS. Others are refused, unless --replace. A source that cannot be read is reported, and the others are added all the same. With
    --json one object a line.

    \b
    Example:
      modelkin add models/llama models/qwen
      modelkin add models/llama/checkpoint-100 --as llama-100 --level probe
    """
    if name is not None and len(sources) > 1:
        raise click.UsageError("--as names one model; give one SOURCE with it.")
    with open_registry(settings, create=True, begin=starter, say=output.say) as registry, output.progress() as begin:
        batch = Batch(registry, how, begin, output.say, replace=replace)
        try:
            for added in batch.add(sources, name):
                _print(output, added)
            registry.refresh()
        except KeyboardInterrupt:
            output.fail(f"Interrupted; {batch.stored_words} stored.")
            click.get_current_context().exit(INTERRUPTED)
    output.say(batch.summary)
    click.get_current_context().exit(batch.exit_code)


def _print(output: Output, added: Added) -> None:
    if added.status == "failed" and not output.as_json:
        output.fail(f"error: {added.reason}")
        return
    about = f"{figures.count(added.parameters)} parameters, {', '.join(added.components)}, level {added.level}"
    output.line(
        added, added.model, f"{added.status:10}{added.model}: {about}, {figures.share(added.coverage or 0.0)} placed, {added.seconds:.1f} s"
    )
