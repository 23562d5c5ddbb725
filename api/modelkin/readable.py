"""What can be read, as an answer."""

from __future__ import annotations

from modelkin_indexer.formats import adapters, containers, quantised
from modelkin_registry.answers.upkeep import Format, Formats

ROWS = "rows"


def formats() -> Formats:
    """What can be read: containers with their suffixes, forms of quantised weights, kinds of adapters."""
    found = [
        Format("container", one.name, one.suffixes, f"rows; whole: {one.whole}" if one.whole else ROWS, one.extra) for one in containers()
    ]
    found += [Format("quantised", name) for name in quantised()]
    found += [Format("adapter", name, read=read) for name, read in adapters()]
    return Formats(tuple(found))
