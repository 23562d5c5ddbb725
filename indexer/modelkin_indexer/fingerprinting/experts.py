"""Small vectors and digests of single experts, and of the router rows that choose them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import sketch, spec
from modelkin_indexer.fingerprinting.channels import RowCollector, probe_vector
from modelkin_indexer.places import Piece, Place
from modelkin_indexer.results.fingerprint import EXPERT_ROLES, Experts
from modelkin_indexer.sketch import Block
from modelkin_indexer.spec import Key

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Sums = npt.NDArray[np.uint64]


class SingleExperts(Struct, frozen=True):
    """(experts, EXPERT_NUMBERS) unit vectors, and (experts,) digests."""

    sketches: Floats
    numbers: Sums


class _ExpertRows:
    """Each expert's own probe sketch, folded: what it would have as a matrix by itself."""

    def __init__(self, piece: Piece, key: Key) -> None:
        view = piece.views[0]
        self._key, self._rows, self._slots = key, view.rows, sketch.slots(view.rows, view.columns)
        self._blocks = sketch.chosen_rows(key, view.rows, view.columns)
        self._collected = RowCollector(self._blocks, view.columns)
        self._sketches = np.zeros((len(piece.views), spec.EXPERT_NUMBERS))

    def take(self, view: int, start: int, block: Singles) -> None:
        """Take in rows of an expert; a sketch is made at its end, so that one expert's rows are kept at a time."""
        self._collected.take(0, start, block)
        if start + len(block) == self._rows:
            probe, _ = probe_vector(self._collected.rows, self._blocks, self._key, self._slots)
            self._sketches[view] = sketch.unit(sketch.folded(probe))[0]

    def finished(self, rows: Sums) -> SingleExperts:
        """`rows` are the digests of all rows, expert by expert."""
        return SingleExperts(self._sketches, rows.reshape(len(self._sketches), -1).sum(axis=1, dtype=np.uint64))


class _RouterRows:
    """A router's rows, each one expert's."""

    def __init__(self, piece: Piece, key: Key) -> None:
        view = piece.views[0]
        self._key, self._collected = key, RowCollector([Block(0, view.rows, 0)], view.columns)

    def take(self, view: int, start: int, block: Singles) -> None:
        """Keep rows."""
        self._collected.take(view, start, block)

    def finished(self, rows: Sums) -> SingleExperts:
        """`rows` are the digests of all rows."""
        wide = self._collected.rows.astype(np.float64)
        found = [sketch.sketch_rows((row - row.mean())[None, :], self._key, "router", 1, spec.EXPERT_NUMBERS)[0] for row in wide]
        return SingleExperts(np.array(found), rows)


class ExpertCollector(Protocol):
    """What makes the small vectors of a stack while its rows stream past."""

    def take(self, view: int, start: int, block: Singles) -> None: ...
    def finished(self, rows: Sums) -> SingleExperts: ...


def single_experts(piece: Piece, key: Key) -> ExpertCollector | None:
    """For stacks of experts and for routers."""
    if piece.experts and len(piece.views) > 1:
        return _ExpertRows(piece, key)
    if (piece.place.family, piece.place.role) == ("router", "router"):
        return _RouterRows(piece, key)
    return None


def expert_table(found: Sequence[tuple[Place, SingleExperts]]) -> Experts:
    """One row an expert of a layer, its roles in fixed slots."""
    width, roles = spec.EXPERT_NUMBERS, len(EXPERT_ROLES)
    rows: dict[tuple[str, int, int], tuple[Any, Any]] = {}
    for place, singles in found:
        if place.role not in EXPERT_ROLES:
            continue
        slot = EXPERT_ROLES.index(place.role)
        for number, (vector, digest) in enumerate(zip(singles.sketches, singles.numbers, strict=True)):
            at = (place.component, place.layer, number)
            row, digests = rows.setdefault(at, (np.zeros(roles * width), np.zeros(roles, np.uint64)))
            row[slot * width : (slot + 1) * width], digests[slot] = vector, digest
    ordered = sorted(rows)
    return Experts(
        places=tuple(Place(component, layer, "expert", "single") for component, layer, _ in ordered),
        expert=np.array([number for _, _, number in ordered], np.int32),
        sketch=np.array([rows[at][0] for at in ordered], np.float64).reshape(len(ordered), roles * width).astype(np.float16),
        numbers=np.array([rows[at][1] for at in ordered], np.uint64).reshape(len(ordered), roles),
    )
