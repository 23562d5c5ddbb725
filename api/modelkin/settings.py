"""What holds for every verb of a call: which registry, which key, and whether the network may be used."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from modelkin_registry.store.address import Place


class Settings(Struct):
    """Which registry and which key; None is the user's own registry, and the public key. `offline` forbids to ask the Hub.

    `others` are asked with it as one; only questions ask several.
    """

    registry: Place | None = None
    key_file: Path | None = None
    offline: bool = False
    debug: bool = False
    others: tuple[Place, ...] = ()
