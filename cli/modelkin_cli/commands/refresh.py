"""`modelkin refresh`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin_cli.options import FILE, PLACE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.upkeep import Renewed
from modelkin_registry.store.address import Place


@click.command("refresh", short_help="Read a registry's models again under another key.")
@click.argument("into", type=PLACE)
@click.argument("new_key", type=FILE)
@click.option("--from", "places", type=FILE, multiple=True, metavar="FOLDER", help="Where weights lie under their models' names.")
@click.option("--hub", is_flag=True, help="Read models that came from the Hub there again. Without, they are only told.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads. The result does not depend on them.")
@printing
@calling
def command(
    into: Place, new_key: Path, places: tuple[Path, ...], hub: bool, threads: int | None, output: Output, call: dict[str, Any]
) -> None:
    """Read the models of a registry again under the key in the file NEW_KEY, into the registry INTO.

    Fingerprints of two keys cannot be compared, so weights are read again: from the folders given, else from where they came from. What is
    not at hand is told. Stopped anywhere, it goes on with the next call.

    \b
    Example:
      modelkin refresh private.db our.key --from models --registry public.db
    """
    with output.listening() as listener:
        each = lambda one: output.line(one, one.model if one.status != "left" else "", _words(one))  # noqa: E731
        answer = modelkin.refresh(into, new_key, places=places, hub=hub, threads=threads, each=each, listener=listener, **call)
    left = sum(one.status == "left" for one in answer.results)
    output.say(f"{len(answer.results) - left} of {len(answer.results)} models are in {answer.registry} under {answer.key}, {left} left.")


def _words(one: Renewed) -> str:
    words = {"renewed": f"read (level {one.level})", "there": "there already", "left": f"left: {one.reason}"}
    return f"{one.model}: {words[one.status]}"
