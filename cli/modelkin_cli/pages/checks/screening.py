"""A screening as lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from modelkin_registry.screening.results import CLEAR, OUTCOMES, Screened, Screening

WIDTH = max(map(len, OUTCOMES)) + 2


def said(one: Screened) -> str:
    """One submission in a line: its outcome, its name, and why."""
    return f"{one.outcome:{WIDTH}}{one.submission}" + (f": {one.reason}" if one.reason else "")


def not_clear(one: Screened) -> str:
    """The name of a submission that somebody has to look at, else ""."""
    return "" if one.outcome == CLEAR else one.submission


def summary(answer: Screening, out: Path) -> Iterator[str]:
    """What the whole batch came to, and where the rest is."""
    yield from answer.explanation
    for warning in answer.warnings:
        yield f"! {warning}"
    yield f"The whole answer, also as SARIF and JUnit: {out}."
