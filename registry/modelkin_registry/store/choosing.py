"""What revisions are sorted and chosen by, as the fingerprint that stands for each tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkin_registry.store.records import Facets


def facets_of(level: str, coverage: float, parameters: int, size: int, about: Mapping[str, Any], config: Mapping[str, Any]) -> Facets:
    """The facets of a revision, of what its fingerprint is described by. `size`: bytes of its tensors.

    Its family is what config.json calls the kind of model, in small letters. An adapter alone counts by the numbers that it holds, not by
    those of the matrices that it changes; None where an older version did not note them.
    """
    adapter = about.get("adapter")
    adapter = adapter if isinstance(adapter, Mapping) and not adapter.get("added") else None
    held = parameters if adapter is None else adapter.get("parameters")
    return Facets(
        level=level,
        family=_family(config),
        components=tuple(str(name) for name in about.get("components") or ()),
        quantization=str(about.get("quantization") or ""),
        adapter="" if adapter is None else str(adapter.get("kind") or "adapter"),
        parameters=held if isinstance(held, int) else None,
        bytes=size,
        coverage=coverage,
    )


def _family(config: Mapping[str, Any]) -> str:
    kinds = config.get("architectures")
    first = kinds[0] if isinstance(kinds, list) and kinds else ""
    named = config.get("model_type") or first
    return named.lower() if isinstance(named, str) else ""
