"""`modelkin remove`."""

from __future__ import annotations

import sys

import click

from modelkin.registries import open_registry
from modelkin.settings import Settings
from modelkin_cli.options import settings
from modelkin_cli.output import Output
from modelkin_cli.pages.text import printable
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.contract import CONTRACT


@click.command("remove", short_help="Forget registered models.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where nobody can answer.")
@printing
@settings
def command(settings: Settings, names: tuple[str, ...], yes: bool, output: Output) -> None:
    """Forget registered models and everything known of them: all of those named, or none if one is not there.

    \b
    Example:
      modelkin remove llama-100 --yes
    """
    with open_registry(settings, begin=False, say=output.say) as registry:
        models = list(dict.fromkeys(registry.show(name)["model"] for name in names))
        if not (yes or _confirmed(models)):
            output.say("Nothing was removed.")
            return
        with registry.store.batch():
            for model in models:
                registry.remove(model)
    output.answer({"contract": CONTRACT, "removed": models}, models, lambda _: [f"Removed {printable(model)}." for model in models])


def _confirmed(models: list[str]) -> bool:
    if not somebody_is_there():
        raise click.UsageError("remove asks before it forgets, and nobody can answer here. Add --yes.")
    return click.confirm(f"Forget {printable(', '.join(models))}?", err=True)


def somebody_is_there() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin.isatty()
