"""Consoles of rich and the bars of progress on them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rich.console import Console

NARROWEST = 12  # columns: the words of an answer are whole from here on, and a narrower terminal breaks the lines itself


class _Console(Console):
    """A console that leaves a closed pipe to its caller (rich's own ends the process with exit code 1, which means a violation here)."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console_of(*, stderr: bool) -> Console:
    """One on stdout or stderr. Without markup a name like "[red]" stays a name, whoever gave it."""
    plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False}
    return _Console(stderr=stderr, **plain, width=_columns())


def _columns() -> int | None:
    """The width to print in; None leaves it to rich. COLUMNS=0, as some shells and CI set it, says nothing: rich would print nothing."""
    said = os.environ.get("COLUMNS", "")
    if not said.isdigit():
        return None
    if int(said):
        return max(int(said), NARROWEST)
    from shutil import get_terminal_size

    return get_terminal_size().columns


class Bars:
    """A bar by bytes, one source after the other."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # where somebody looks

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, transient=True)

    def next(self, name: str, total: int) -> Callable[[int], None]:
        """Begin with the next source, in place of the one before. What it returns is told of bytes as they are done."""
        for former in self._bars.task_ids:
            self._bars.remove_task(former)
        self._bars.start()
        task = self._bars.add_task(name, total=total)
        return lambda done: self._bars.advance(task, done)

    def stop(self) -> None:
        """Take the bar away; the next source starts it again."""
        self._bars.stop()
