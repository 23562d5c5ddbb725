"""What a tree needs of every model, told by its fingerprint once, so that it need not be read again for it."""

from __future__ import annotations

import numpy as np
from blake3 import blake3
from msgspec import Struct

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.batches.layouts import Layout, is_informative, layout_of
from modelkin_registry.evidence.places import INFORMATIVE, SHOWN_AS
from modelkin_registry.trees.pairs.links import Part


class Facts(Struct, frozen=True):
    """Of one model: its size, its components, its informative (component, family) pairs, and what models with the same weights share.

    The same means equal places, sketches and lengths: a copy in another file layout, or cast without loss, is one.
    """

    parameters: int
    components: tuple[str, ...]
    parts: frozenset[Part]
    sameness: bytes


def facts_of(fingerprint: Fingerprint) -> Facts:
    """What is told of a fingerprint."""
    about = fingerprint.about
    return Facts(about.parameters, about.components, _own_parts(layout_of(fingerprint)), _sameness(fingerprint))


def comparable_share(compared: int, model: Fingerprint) -> float:
    """The share of a model's informative weights that was compared; weights that no rule knows were not."""
    layout = layout_of(model)
    known = layout.example.matrices.worked_out
    if comparable_share not in known:
        informative = [is_informative(place.family) for place in layout.places]
        known[comparable_share] = int(layout.parameters[informative].sum())
    own = known[comparable_share]
    return min(1.0, compared / own) * model.about.coverage if own else 0.0


def _sameness(fingerprint: Fingerprint) -> bytes:
    table = fingerprint.matrices
    hasher = blake3(_places(layout_of(fingerprint)))
    for column in (table.rows, table.columns, table.probe, table.scale, fingerprint.vectors.digest):
        hasher.update(np.ascontiguousarray(column).tobytes())
    return bytes(hasher.digest())


def _places(layout: Layout) -> bytes:
    known = layout.example.matrices.worked_out
    if _places not in known:
        known[_places] = repr(layout.places).encode()
    return known[_places]  # type: ignore[no-any-return]


def _own_parts(layout: Layout) -> frozenset[Part]:
    """All (component, informative family) pairs of models of this layout."""
    known = layout.example.matrices.worked_out
    if _own_parts not in known:
        families = ((place.component, SHOWN_AS.get(place.family, place.family)) for place in layout.places)
        known[_own_parts] = frozenset(part for part in families if part[1] in INFORMATIVE)
    return known[_own_parts]  # type: ignore[no-any-return]
