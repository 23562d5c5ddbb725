"""`modelkin formats`."""

from __future__ import annotations

import click

import modelkin
from modelkin_cli.output import Output
from modelkin_cli.pages.tables import format_tables
from modelkin_cli.reading_options import printing


@click.command("formats", short_help="List what can be read, and how.")
@printing
def command(output: Output) -> None:
    """List what can be read: kinds of file with their suffixes, forms of quantised weights, kinds of adapters.

    At level probe only the rows that are looked at are read, on the Hub by ranges, unless the table says what is read whole. What needs
    an extra says which one: pip install "modelkin[EXTRA]".

    \b
    Example:
      modelkin formats
    """
    answer = modelkin.formats()
    output.answer(answer, (suffix for one in answer.formats for suffix in one.suffixes), lambda _: format_tables(answer.formats))
