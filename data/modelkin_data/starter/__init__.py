"""The starter registry: fingerprints of well-known public models that come with the package."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parent / "registry.db"


def path() -> Path | None:
    """The packaged registry's file, None in a package built without one."""
    return FILE if FILE.is_file() else None
