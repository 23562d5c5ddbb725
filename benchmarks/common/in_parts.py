"""A long benchmark in several runs: what is done of its cases is kept in a file, and a later run goes on behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.common.results import commit

UNFINISHED = 75  # exit code of a run that has left cases for another: EX_TEMPFAIL of sysexits.h


class Unfinished(Exception):
    """The time of this run is over, and cases are left."""


class InParts:
    """Cases by name, each with what was found of it and the commit that it was measured on, one a line of a file."""

    def __init__(self, path: Path, minutes: float | None = None) -> None:
        self._path, self._ends = path, time.monotonic() + 60 * minutes if minutes else None
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._done: dict[str, dict[str, Any]] = {line["case"]: line for line in map(json.loads, lines)}

    def each(self, cases: Iterable[str], measure: Callable[[str], Any]) -> dict[str, Any]:
        """What `measure` finds of every case, in their order. Raises Unfinished where the time is over before all are done."""
        cases = list(cases)
        for case in cases:
            if case in self._done:
                continue
            if self._ends and time.monotonic() > self._ends:
                raise Unfinished(f"{sum(one in self._done for one in cases)} of {len(cases)} cases are done: run it again")
            self._done[case] = {"case": case, "commit": commit(), "found": measure(case)}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._done[case]) + "\n")
        return {case: self._done[case]["found"] for case in cases}

    def done(self, cases: Iterable[str]) -> dict[str, Any]:
        """What was found of those that are done."""
        return {case: self._done[case]["found"] for case in cases if case in self._done}

    def commits(self) -> list[str]:
        """What the cases were measured on."""
        return sorted({str(line["commit"]) for line in self._done.values()})

    def finished(self) -> None:
        """Forget the file."""
        self._path.unlink(missing_ok=True)
