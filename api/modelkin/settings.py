"""What holds for every verb of a call: which registry, and which key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Settings:
    """Which registry and which key; None is the user's own registry, and the public key."""

    registry: Path | None = None
    key_file: Path | None = None
