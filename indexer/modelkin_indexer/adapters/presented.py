"""The sources that adapters are presented as, and whether names leave it open that a source is one.

Apart from what works changes out (source.py): most models are none, and are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkin_indexer.adapters.config import AdapterConfig
from modelkin_indexer.adapters.names import FOREIGN, OWN, TOKENS
from modelkin_indexer.quantised.source import QuantisedSource
from modelkin_indexer.source import Source

PLAIN = (".weight", ".bias")  # endings of a whole model's tensors
SIGNS = (*OWN, *FOREIGN, TOKENS)


class AdapterSource(QuantisedSource):
    """The changes that an adapter makes, under the names of the base's weights. `adapter` says what it is; `stored` is what it holds."""

    adapter: Mapping[str, Any]
    stored: Source
    may_be_empty = True


class AdaptedSource(QuantisedSource):
    """A base with an adapter's changes added."""

    adapter: Mapping[str, Any]


def adapter_of(source: Source) -> dict[str, Any] | None:
    """What kind of adapter a source is or was made with: kind, rank, base as declared, and whether it was added to it."""
    return dict(source.adapter) if isinstance(source, (AdapterSource, AdaptedSource)) else None


def is_surely_none(source: Source, config: AdapterConfig) -> bool:
    """Whether a source is no adapter: no config says so, all tensors end as a whole model's do, and no name holds a tuner's sign."""
    names = "\n".join(source.tensors)
    return not config.there and all(name.endswith(PLAIN) for name in source.tensors) and not any(sign in names for sign in SIGNS)
