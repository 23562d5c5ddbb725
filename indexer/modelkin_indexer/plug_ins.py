"""What other packages add by entry points. They are asked only where nothing of our own will do, and never displace it."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

CONTAINERS = "modelkin.containers"  # each leads to a `sources.register.Container`, whose `leaf` is a module of that package
SCHEMES = "modelkin.schemes"  # each leads to a function as those of `quantised.schemes.SCHEMES`
_LOG = logging.getLogger("modelkin")


@cache
def loaded(group: str) -> tuple[Any, ...]:
    """What the entry points of a group lead to, in the order of their names. One that cannot be loaded is told to the log and left out."""
    from importlib.metadata import entry_points  # as long to import as a small registry takes to answer

    found = []
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        try:
            found.append(point.load())
        except Exception as error:  # whatever is wrong with another package, what we read ourselves is read
            _LOG.warning("%s (%s) cannot be loaded and is left out: %r", point.value, group, error)
    return tuple(found)
