"""Tables of the truth whose rows carry a checksum of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkin_registry.store.rows import checksum

# The columns that the checksum is over, in this order.
SEALED: dict[str, tuple[str, ...]] = {
    "model": ("name", "added", "redirect_to", "sender"),
    "revision": ("model", "content", "files", "parameters", "bytes_total", "config", "added"),
    "fingerprint": ("revision", "level", "spec", "key", "coverage", "about", "digest", "bytes", "added"),
    "source": ("revision", "who", "origin", "first_seen", "last_seen", "files"),
    "claim": ("model", "kind", "value", "source", "first_seen", "last_seen"),
    "structure": ("model", "kind", "name", "digest", "data", "first_seen", "last_seen"),
    "background": ("channel", "family", "sd", "shipped", "pairs", "lineages", "used", "models", "measured"),
    "tag": ("model", "name", "added"),
    "note": ("model", "text", "noted"),
}


def sealed(table: str) -> str:
    """The columns of such a table for a SELECT of several: each under the table's name and its own."""
    return ", ".join(f"{table}.{column} AS {table}_{column}" for column in (*SEALED[table], "checksum"))


def seal_of(table: str, row: Mapping[str, Any]) -> int:
    """The checksum that a row ought to carry."""
    return checksum(*(row[column] for column in SEALED[table]))
