"""Text that is safe to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line without anything that could steer a terminal: control and formatting characters are written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
