"""The starter registry: fingerprints of a few well-known models, so that a new user's first question has something to find.

starter.db   the registry, made by benchmarks/starter/build_starter.py
models.json  what is in it: packages, versions, digests, licences; and the real models that benchmarks use beside it
"""

from __future__ import annotations

from pathlib import Path


def path() -> Path | None:
    """The packaged registry; None where the package has none or is no folder. Copy it before opening: opening a registry writes to it."""
    packaged = Path(__file__).with_name("starter.db")
    return packaged if packaged.is_file() else None
