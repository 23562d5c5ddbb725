"""`--report` and `--language`: an answer as a page to hand on, beside what is printed."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

import modelkin
from modelkin.reporting.languages import LANGUAGES, SUFFIXES
from modelkin_cli.options import FILE, TYPED
from modelkin_cli.output import Output

SETTINGS = ("MODELKIN_REGISTRY", "MODELKIN_KEY_FILE")  # of the environment, which change what a command does
Callback = Callable[..., Any]


class Paper(Struct, frozen=True):
    """The page that a call asks for, if it does."""

    file: Path | None
    language: str

    def write(self, answer: Any, output: Output, call: Mapping[str, Any], models: Sequence[str] = ()) -> None:
        """Write it, if one was asked for. `models`: what was asked about and the answer does not name by its path."""
        if self.file is None:
            return
        where = {name: call[name] for name in ("registry", "offline", "key_file") if name in call}
        with output.listening() as listener:
            told = modelkin.report(
                answer,
                self.file,
                language=self.language,
                command=typed(),
                models=models,
                listener=listener,
                **where,
            )
        for file in told.files:
            output.say(f"{file}: written.")


def report_options(callback: Callback) -> Callback:
    """`--report` and `--language`, as `paper`."""

    @click.option("--report", "report_file", type=FILE, metavar="FILE", help="Write a page too: .html (offline, printable), .md or .pdf.")
    @click.option("--language", type=click.Choice(LANGUAGES), default=LANGUAGES[0], help="Of the page. Default: en.")
    @functools.wraps(callback)
    def with_report(*arguments: Any, report_file: Path | None, language: str, **options: Any) -> Any:
        if report_file is not None and report_file.suffix.lower() not in SUFFIXES:  # told before the models are read
            raise click.UsageError(f"--report {report_file}: the name ends in {', '.join(SUFFIXES)}.")
        if report_file is not None and not report_file.parent.is_dir():
            raise click.UsageError(f"--report {report_file}: there is no folder {report_file.parent}.")
        return callback(*arguments, paper=Paper(report_file, language), **options)

    return with_report


def typed() -> str:
    """The command as it can be typed again, with the settings of the environment that it depends on."""
    words = click.get_current_context().meta.get(TYPED, ())
    settings = [f"{name}={shlex.quote(os.environ[name])} " for name in SETTINGS if os.environ.get(name)]
    return f"{''.join(settings)}modelkin {shlex.join(words)}"
