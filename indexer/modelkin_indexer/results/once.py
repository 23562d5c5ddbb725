"""What follows from one table of a fingerprint alone, worked out once and kept with it for every model that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar


class Table(Protocol):
    """A table that keeps what was worked out of it."""

    @property
    def worked_out(self) -> dict[Any, Any]: ...


OfTable = TypeVar("OfTable", bound=Table)
Made = TypeVar("Made")


def once(work: Callable[[OfTable], Made]) -> Callable[[OfTable], Made]:
    """A function of a table that works at its first call. What it returns is everybody's, and must be left as it is."""

    @wraps(work)
    def kept(table: OfTable) -> Made:
        known = table.worked_out
        if kept not in known:
            known[kept] = work(table)
        made: Made = known[kept]
        return made

    return kept
