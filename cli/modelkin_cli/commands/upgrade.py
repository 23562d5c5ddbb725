"""`modelkin upgrade`."""

from __future__ import annotations

from typing import Any

import click

import modelkin
from modelkin_cli.options import calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing
from modelkin_registry.answers.upkeep import Renewed


@click.command("upgrade", short_help="Make fingerprints of an older spec anew.")
@click.option("--hub", is_flag=True, help="Read models that came from the Hub there again. Without, they are only told.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads. The result does not depend on them.")
@printing
@calling
def command(hub: bool, threads: int | None, output: Output, call: dict[str, Any]) -> None:
    """Make fingerprints of an older spec anew, so that their models are searched again.

    Fingerprints of two specs cannot be compared. Weights are read again from where they came from, and models that come with modelkin are
    taken from there; what is at hand no more is told, stays listed, and is searched once its weights are added again. Stopped anywhere, it
    goes on with the next call.

    \b
    Example:
      modelkin upgrade
      modelkin upgrade --hub --json
    """
    with output.listening() as listener:
        each = lambda one: output.line(one, one.model if one.status == "renewed" else "", _words(one))  # noqa: E731
        answer = modelkin.upgrade(hub=hub, threads=threads, each=each, listener=listener, **call)
    left = sum(one.status == "left" for one in answer.results)
    output.say(f"{len(answer.results) - left} made anew, {left} left." if answer.results else "No fingerprint is of an older spec.")


def _words(one: Renewed) -> str:
    return f"{one.model}: made anew (level {one.level})" if one.status == "renewed" else f"{one.model}: left: {one.reason}"
