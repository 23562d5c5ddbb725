"""Where a verb's answer goes: tables for people, JSON for scripts, bare names when quiet. Data on stdout, words on stderr."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

import click

from modelkin.wishes import Listener
from modelkin_cli.pages.text import printable
from modelkin_registry.answers.plain import to_plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from modelkin_cli.pages.consoles import Bars

Told = Callable[[int], None]


class Output:
    """The one place that prints. In JSON and quiet mode nothing but data is printed, errors aside.

    rich, a tenth of a second to import, is there for tables and terminals only.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json, self.quiet, self.debug = as_json, quiet, debug
        self._bars: Bars | None = None

    @cached_property
    def console(self) -> Console:
        """What people read."""
        from modelkin_cli.pages.consoles import console_of

        return console_of(stderr=False)

    @cached_property
    def errors(self) -> Console:
        """What stands beside the data."""
        from modelkin_cli.pages.consoles import console_of

        return console_of(stderr=True)

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
        elif _is_seen(sys.stdout):
            self.console.print(printable(words), soft_wrap=not self.console.is_terminal)
        else:
            click.echo(printable(words))

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
        if not (self.for_people and _is_seen(sys.stderr) and self.errors.is_terminal):
            yield Listener(lambda name, total: lambda done: None, self.say, self.fail, self.fault)
            return
        from modelkin_cli.pages.consoles import Bars

        self._bars = bars = Bars(self.errors)
        try:
            yield Listener(lambda name, total: bars.next(printable(name), total), self.say, self.fail, self.fault)
        finally:
            bars.stop()
            self._bars = None


def _is_seen(stream: TextIO) -> bool:
    """Whether somebody may look: at a terminal, or by a variable that says so to rich."""
    return stream.isatty() or any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
