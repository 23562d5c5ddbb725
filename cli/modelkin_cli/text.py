"""Text that is safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line without anything that could steer a terminal: control and formatting characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(number: int | None) -> str:
    """`4.4 MB`."""
    if number is None:
        return "-"
    amount, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
