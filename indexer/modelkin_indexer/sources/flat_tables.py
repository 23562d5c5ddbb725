"""Tables of flatbuffers by the places of their fields, where no package has the schema. What they find is checked by who asks.

https://flatbuffers.dev/internals
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from flatbuffers.number_types import UOffsetTFlags
from flatbuffers.table import Table

MOST_TEXT = 4096  # bytes of a text that is read
# What is raised on offsets that lead nowhere.
NONSENSE = (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError, RecursionError)


def root(data: bytes | memoryview) -> Table:
    """The first table of a buffer."""
    return Table(data, int.from_bytes(data[:4], "little"))


def inside(table: Table, field: int) -> Table | None:
    """The table of a field."""
    offset = table.Offset(field)
    return Table(table.Bytes, table.Indirect(table.Pos + offset)) if offset else None


def tables(table: Table, field: int, most: int) -> Iterator[Table]:
    """The tables of a field's list, at most so many."""
    offset = table.Offset(field)
    count = _few(table.VectorLen(offset), most) if offset else 0
    for at in range(count):
        yield Table(table.Bytes, table.Indirect(table.Vector(offset) + 4 * at))


def numbers(table: Table, field: int, form: str, most: int) -> tuple[int, ...]:
    """The numbers of a field's list; `form` of one, as `struct` has it."""
    offset = table.Offset(field)
    count = _few(table.VectorLen(offset), most) if offset else 0
    return struct.unpack_from(f"<{count}{form}", table.Bytes, table.Vector(offset)) if count else ()


def number(table: Table, field: int, form: str) -> int:
    """A number, 0 where there is none."""
    offset = table.Offset(field)
    return int(struct.unpack_from(f"<{form}", table.Bytes, table.Pos + offset)[0]) if offset else 0


def text(table: Table, field: int) -> str:
    offset = table.Offset(field)
    if not offset:
        return ""
    start = table.Pos + offset + table.Get(UOffsetTFlags, table.Pos + offset)
    length = _few(int.from_bytes(table.Bytes[start : start + 4], "little"), MOST_TEXT)
    found = bytes(table.Bytes[start + 4 : start + 4 + length])
    return "".join(letter if letter.isprintable() else "?" for letter in found.decode("utf-8", "replace"))


def bytes_at(table: Table, field: int) -> tuple[int, int]:
    """Where the bytes of a field lie in the buffer, and how many they are."""
    offset = table.Offset(field)
    return (table.Vector(offset), table.VectorLen(offset)) if offset else (0, 0)


def _few(count: int, most: int) -> int:
    if count > most:
        raise ValueError(f"{count:,} of a kind")
    return count
