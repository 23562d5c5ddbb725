"""`modelkin serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import modelkin
from modelkin.reporting.languages import LANGUAGES
from modelkin.serving.wishes import Served
from modelkin.wishes import HOST, PORT, RATE
from modelkin_cli.options import FILE, calling
from modelkin_cli.output import Output
from modelkin_cli.reading_options import printing, starter_option


@click.command("serve", short_help="Show a registry in a browser, and answer as JSON.")
@click.option("--host", default=HOST, metavar="ADDRESS", help=f"Listen at this address. Default: {HOST}, which this machine alone reaches.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, metavar="N", help=f"Listen at this port; 0 takes a free one. Default: {PORT}."
)
@click.option("--read-only", is_flag=True, help="Take no model in, and keep answers in no folder: they last until it ends.")
@click.option("--token-file", type=FILE, metavar="FILE", help="Tokens, one a line: who sends one may add and remove models.")
@click.option("--hub", is_flag=True, help="Read models of the Hub that are not registered and are asked about.")
@click.option(
    "--weights", type=click.IntRange(0), default=0, metavar="MB", help="Take files of weights up to this size. Default: fingerprints alone."
)
@click.option(
    "--rate",
    type=click.FloatRange(0),
    default=RATE,
    metavar="N",
    help=f"Units a second from one address: a page is 1, a question 10. 0: no bound. Default: {RATE:g}.",
)
@click.option("--answers", type=FILE, metavar="FOLDER", help="Keep answers here. Default: a folder beside the registry.")
@click.option("--paths", is_flag=True, help="Tell where on this machine models came from.")
@click.option("--language", type=click.Choice(LANGUAGES), default=LANGUAGES[0], help="Of the pages. Default: en.")
@starter_option
@printing
@calling
def command(read_only: bool, token_file: Path | None, answers: Path | None, output: Output, call: dict[str, Any], **wishes: Any) -> None:
    """Show a registry in a browser, without scripts, and answer as JSON by the same contract, until Ctrl-C.

    Models with their relatives, claims beside the weights and the tree around them; search by name, Hub id or fingerprint; two models
    compared. Every answer has an address that lasts. Needs the extra: pip install 'modelkin[serve]'.

    \b
    Example:
      modelkin serve
      modelkin serve --port 0 --read-only
      modelkin serve --host 0.0.0.0 --token-file tokens.txt
    """
    if read_only and (token_file is not None or answers is not None):
        raise click.UsageError("--read-only takes no models in and keeps no answers: leave --token-file and --answers out with it.")
    told = {"read_only": read_only, "token_file": token_file, "answers": answers, **wishes}
    with output.listening() as listener:
        done = modelkin.serve(each=lambda one: output.line(one, one.url, _words(one)), listener=listener, **told, **call)
    output.say(f"{done.requests:,} requests answered.")


def _words(one: Served) -> str:
    writing = "models can be added with a token" if one.writing else "no model can be added"
    return f"{one.url} shows {one.models:,} {'model' if one.models == 1 else 'models'} of {one.registry}; {writing}. Ctrl-C ends it."
