"""What `strict` refuses of a fingerprint that is there already: weights that were read for it are refused while they are read."""

from __future__ import annotations

from pathlib import Path

from modelkin_indexer.errors import UnusableValues
from modelkin_indexer.results.fingerprint import NOT_FINITE, Fingerprint


def refuse_damage(fingerprint: Fingerprint, path: str | Path) -> None:
    """Refuse a model of which damaged tensors, or parts of them, were left out. Raises UnusableValues."""
    for entry in fingerprint.about.unread:
        if entry["what"].startswith(NOT_FINITE):
            raise UnusableValues(f"was indexed without {entry['what']}", path=path, remedy="Leave --strict out to look at the rest.")
