"""How other libraries name and lay out the weights of well-known architectures."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from msgspec import Struct

from modelkin_data.reading import read_text


class LibraryRow(Struct, frozen=True):
    """One row of the table `names/libraries.json`, see `about` there.

    beside   condition: the file has a tensor whose name ends in this too
    parts    in place of `published`: the published names of a fused tensor's parts, one under the other
    rows     what the parts have of its rows; empty for equal shares
    """

    name: str
    published: str = ""
    layout: tuple[str, ...] = ()
    beside: str = ""
    parts: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


class Library(Struct, frozen=True):
    """A library: the signs that a file of it has all of, and how its names are published ones."""

    name: str
    signs: tuple[str, ...]
    rows: tuple[LibraryRow, ...]


@cache
def libraries() -> tuple[Library, ...]:
    """The table. Raises TypeError where a row has an unknown key or lacks one."""
    table: dict[str, Any] = json.loads(read_text("names/libraries.json"))
    return tuple(Library(entry["library"], tuple(entry["signs"]), _rows(entry["rows"])) for entry in table["libraries"])


def _rows(rows: list[dict[str, Any]]) -> tuple[LibraryRow, ...]:
    return tuple(LibraryRow(**_tuples(row)) for row in rows)


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
