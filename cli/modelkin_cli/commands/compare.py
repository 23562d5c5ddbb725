"""`modelkin compare`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from modelkin_cli.asking import printing, reading
from modelkin_cli.inputs import HUB_ID, HowToRead, existing, read_source
from modelkin_cli.options import Settings, settings
from modelkin_cli.output import Output
from modelkin_cli.pages import compare_page
from modelkin_cli.registries import open_registry
from modelkin_cli.verdicts import VIOLATED, fail_on_option, violations
from modelkin_indexer.errors import SourceNotFound, UnknownModel
from modelkin_indexer.fingerprint import Fingerprint
from modelkin_registry.comparison import compare_fingerprints
from modelkin_registry.registry import Registry


@click.command("compare", short_help="Hold two models against each other.")
@click.argument("a")
@click.argument("b")
@click.option("--control", "controls", multiple=True, metavar="C", help="A third model, to show what its figures are. May be repeated.")
@fail_on_option
@reading
@printing
@settings
def command(
    settings: Settings,
    a: str,
    b: str,
    controls: tuple[str, ...],
    fail_on: tuple[str, ...],
    how: HowToRead,
    output: Output,
) -> None:
    """Hold model A against model B, family by family. Each is a source or the name of a registered model.

    A figure that a control reaches too says nothing of A and B.

    \b
    Example:
      modelkin compare models/mystery models/llama --control models/qwen
      modelkin compare models/mystery llama --fail-on descent
    """
    sides = _fingerprints((a, b, *controls), how, settings, output)
    third = {name: sides[name] for name in controls}
    answer = compare_fingerprints(sides[a], sides[b], a_name=a, b_name=b, controls=third)
    output.answer(answer, (answer.relation,), lambda console: compare_page(answer, sides[a].about.layers, console))
    if names := violations(fail_on, answer.relation, answer.also, answer.components):
        output.say(f"--fail-on: {', '.join(names)}")
        click.get_current_context().exit(VIOLATED)


def _fingerprints(names: tuple[str, ...], how: HowToRead, settings: Settings, output: Output) -> dict[str, Fingerprint]:
    """Each side's fingerprint, read or from the registry; that is opened only if a name needs it."""
    found: dict[str, Fingerprint] = {}
    registry: Registry | None = None
    with ExitStack() as stack:
        begin = stack.enter_context(output.progress())
        for name in dict.fromkeys(names):
            if Path(name).exists():
                found[name] = read_source(name, how, begin).fingerprint
            else:
                registry = registry or stack.enter_context(open_registry(settings, say=output.say))
                found[name] = _registered(registry, name)
    return found


def _registered(registry: Registry, name: str) -> Fingerprint:
    try:
        return registry.get(name)
    except UnknownModel as error:
        if HUB_ID.fullmatch(name):
            existing(name)
        raise SourceNotFound("no such file or folder, and no registered model", path=name, remedy=str(error)) from error
