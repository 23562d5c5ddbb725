"""Options that verbs share, handed to them as what they come to: where to print, and how to read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from modelkin.settings import Settings
from modelkin_cli.options import FILE
from modelkin_cli.output import Output

Callback = Callable[..., Any]
STRICT = "Refuse a model with damaged tensors (NaN, infinite numbers). Without, these are left out, told and counted as unread."


def printing(callback: Callback) -> Callback:
    """`--json` and `--quiet`, as `output`."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option("--quiet", "-q", is_flag=True, help="Print names only, and no progress.")
    @functools.wraps(callback)
    def with_output(*arguments: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        debug = click.get_current_context().ensure_object(Settings).debug
        return callback(*arguments, output=Output(as_json=as_json, quiet=quiet, debug=debug), **options)

    return with_output


class ReadingCommand(click.Command):
    """A verb that reads models: its help ends with the kinds of file that are read."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from modelkin_indexer.sources.register import CONTAINERS  # only the help needs it here

        kinds = ", ".join(f"{one.name} ({' '.join(one.suffixes)})" for one in CONTAINERS)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"Kinds of file: {kinds}.")


def reading(callback: Callback) -> Callback:
    """`--level`, `--threads`, `--file`, `--adapter-base` and `--strict`, as part of `call`."""
    levels = "full reads every byte once; probe reads a few rows of each matrix. Default: full; of a Hub id probe."

    @click.option("--level", type=click.Choice(["probe", "full"]), help=levels)
    @click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="Threads. The result does not depend on it.")
    @click.option("--file", metavar="NAME", help="Which file of the folder to read, where it holds several models.")
    @click.option("--adapter-base", type=FILE, metavar="PATH", help="The base of an adapter (PEFT LoRA, DoRA): the sum is looked at.")
    @click.option("--strict", is_flag=True, help=STRICT)
    @functools.wraps(callback)
    def with_reading(
        *arguments: Any, level: str | None, threads: int | None, file: str | None, adapter_base: Path | None, strict: bool, **options: Any
    ) -> Any:
        how = {"level": level, "threads": threads, "file": file, "adapter_base": adapter_base, "strict": strict}
        return callback(*arguments, reading=how, **options)

    return with_reading


starter_option = click.option(
    "--starter/--no-starter",
    default=True,
    help="Begin a new registry of yours with the models that come with modelkin. Default: yes.",
)

tensors_option = click.option("--tensors", is_flag=True, help="List each tensor with its counterpart, and how that was found.")
