"""`modelkin decompose`."""

from __future__ import annotations

from pathlib import Path

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin.sources.naming import existing, hub_id
from modelkin.sources.reading import read_source
from modelkin.sources.sides import sides_of
from modelkin.wishes import HowToRead
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.merge import merge_page
from modelkin_cli.reading_options import printing, reading
from modelkin_registry.answers.asked import DecomposeAnswer
from modelkin_registry.merging.reporting import fitted


@click.command("decompose", short_help="Take a merge apart: its parents, and in what proportion.")
@click.argument("source")
@click.argument("more", nargs=-1, metavar="[PARENT]...")
@click.option("--parents", multiple=True, metavar="A B ...", help="Parents: sources or registered models. Default: they are sought.")
@click.option("--base", metavar="NAME", help="The model that the parents were trained from, if you know it.")
@click.option("--recipe", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a recipe for mergekit there.")
@reading
@printing
@settings
def command(
    settings: Settings,
    source: str,
    more: tuple[str, ...],
    parents: tuple[str, ...],
    base: str | None,
    recipe: Path | None,
    how: HowToRead,
    output: Output,
) -> None:
    """Find which registered models SOURCE was merged from, with weights, by component and layer, and what they leave.

    Weights sum to one. A model that was only trained near others is not called a merge.

    \b
    Example:
      modelkin decompose models/mystery --recipe mystery.yml
      modelkin decompose models/mystery --parents llama-chat llama-code --base llama
    """
    named = (*parents, *more)
    answer = _weighed(source, named, base, how, settings, output) if named else _sought(source, base, how, settings, output)
    merge = answer.merge or {"parents": []}
    output.answer(answer, (parent["model"] for parent in merge["parents"]), lambda console: merge_page(answer, console))
    if recipe:
        _write(recipe, answer, output)


def _weighed(source: str, named: tuple[str, ...], base: str | None, how: HowToRead, settings: Settings, output: Output) -> DecomposeAnswer:
    """Against parents that were named."""
    wanted = tuple(dict.fromkeys((*named, *([base] if base else ()))))
    asked = source if hub_id(source) is not None else str(existing(source))
    with output.listening() as listener:
        sides = sides_of((asked, *wanted), how, settings, listener)
    return fitted(sides[asked].fingerprint, {name: sides[name].fingerprint for name in wanted}, base=base, source=source)


def _sought(source: str, base: str | None, how: HowToRead, settings: Settings, output: Output) -> DecomposeAnswer:
    """Against what the registry holds."""
    with open_registry(settings, say=output.say) as registry:
        with output.listening() as listener:
            fingerprint = read_source(source, how, listener, registry.store, registry.store.names()).fingerprint
        return registry.decompose(fingerprint, base=base, source=source)


def _write(path: Path, answer: DecomposeAnswer, output: Output) -> None:
    if answer.recipe is None:
        output.fail(f"{path}: not written: no recipe makes this model again.")
        return
    path.write_text(answer.recipe, encoding="utf-8")
    output.say(f"{path}: a recipe for mergekit. It names registered models; put paths or Hub ids there.")
