"""Where a verb's answer goes: tables for people, JSON for scripts, bare names when quiet. Data on stdout, words on stderr."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from modelkin.wishes import Listener
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.plain import to_plain

Told = Callable[[int], None]
NARROWEST = 12  # columns: the words of an answer are whole from here on, and a narrower terminal breaks the lines itself


class _Console(Console):
    """A console that leaves a closed pipe to its caller (rich's own ends the process with exit code 1, which means a violation here)."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Output:
    """The one place that prints. In JSON and quiet mode nothing but data is printed, errors aside."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json, self.quiet, self.debug = as_json, quiet, debug
        # Without markup a name like "[red]" stays a name, whoever gave it.
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False}
        self.console = _Console(**plain, width=_columns())
        self.errors = _Console(stderr=True, **plain, width=_columns())
        self._bars: Progress | None = None

    @property
    def for_people(self) -> bool:
        return not (self.as_json or self.quiet)

    def answer(self, value: Any, names: Iterable[str], people: Callable[[Console], Iterable[RenderableType]]) -> None:
        """Print one answer in the form that was asked for: the whole value, its names, or what people read."""
        if self.as_json:
            click.echo(json.dumps(to_plain(value), indent=2, allow_nan=False))
        elif self.quiet:
            for name in names:
                click.echo(printable(name))
        else:
            for part in people(self.console):
                self.console.print(part)

    def line(self, value: Any, name: str, words: str) -> None:
        """Print one result of a batch at once: a line of JSON, a name ("" prints nothing), or a line of words."""
        if self._bars is not None:
            self._bars.stop()  # a bar on the same terminal would run into the line; the next source starts it again
        if self.as_json:
            click.echo(json.dumps(to_plain(value), allow_nan=False))
        elif self.quiet:
            if name:
                click.echo(printable(name))
        else:
            self.console.print(printable(words), soft_wrap=not self.console.is_terminal)

    def say(self, words: str) -> None:
        """Tell the person something that is not data."""
        if self.for_people:
            self.fail(words)

    def fail(self, words: str) -> None:
        """Say why something failed, in every mode. Wrapped in a terminal only, so that a script gets one line."""
        self.errors.print(printable(words), soft_wrap=not self.errors.is_terminal)

    def fault(self, error: Exception) -> None:
        """Show where an error came from that the call survives, if that was asked for."""
        if self.debug:
            click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Whom a call tells of its progress: a bar by bytes on stderr, one source after the other; nothing where nobody looks."""
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        hidden = not (self.for_people and self.errors.is_terminal)
        bars = Progress(*columns, console=self.errors, transient=True, disable=hidden)
        self._bars = bars
        try:
            yield Listener(lambda name, total: _next_bar(bars, printable(name), total), self.say, self.fail, self.fault)
        finally:
            bars.stop()
            self._bars = None


def _columns() -> int | None:
    """The width to print in; None leaves it to rich. COLUMNS=0, as some shells and CI set it, says nothing: rich would print nothing."""
    said = os.environ.get("COLUMNS", "")
    if not said.isdigit():
        return None
    return max(int(said), NARROWEST) if int(said) else shutil.get_terminal_size().columns


def _next_bar(bars: Progress, name: str, total: int) -> Told:
    for former in bars.task_ids:
        bars.remove_task(former)
    bars.start()
    task = bars.add_task(name, total=total)
    return lambda done: bars.advance(task, done)
