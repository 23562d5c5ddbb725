"""What follows from one table of a fingerprint alone, worked out once and kept with it for every model that it is held against."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Keeps(Protocol):
    """A value that keeps what was worked out of it."""

    @property
    def worked_out(self) -> dict[Any, Any]: ...


Kept = TypeVar("Kept", bound=Keeps)
Made = TypeVar("Made")
Given = ParamSpec("Given")


def once(work: Callable[Concatenate[Kept, Given], Made]) -> Callable[Concatenate[Kept, Given], Made]:
    """A function of a table, and of what is hashable, that works once for each. What it returns is everybody's: leave it as it is."""

    @wraps(work)
    def known(table: Kept, /, *given: Given.args, **named: Given.kwargs) -> Made:
        key, worked_out = (known, given, *named.items()), table.worked_out
        if key not in worked_out:
            worked_out[key] = work(table, *given, **named)
        made: Made = worked_out[key]
        return made

    return known
