"""Files of this package, read. `importlib.resources` would do, and brings what makes temporary files and unpacks archives with it."""

from __future__ import annotations

import pkgutil


def read_text(name: str) -> str:
    """The text of a file of this package, e.g. `names/words.json`, wherever the package lies. Raises FileNotFoundError."""
    data = pkgutil.get_data(__package__, name)
    if data is None:  # a loader that keeps no data
        raise FileNotFoundError(f"{name}: not a file of {__package__}")
    return data.decode("utf-8")
