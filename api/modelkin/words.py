"""Figures in words."""

from __future__ import annotations


def size(number: int | None) -> str:
    """`4.4 MB`."""
    if number is None:
        return "-"
    amount, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
