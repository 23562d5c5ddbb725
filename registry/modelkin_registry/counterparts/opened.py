"""Stacks of experts opened: where one file names each expert apart and another does not, both are held against each other one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer import sketch, spec
from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import EXPERT_ROLES, Experts, Fingerprint, Matrices
from modelkin_registry.counterparts.moving import chosen_rows
from modelkin_registry.evidence.places import UPCYCLED_ROLES
from modelkin_registry.evidence.similarity import is_folded

Shape = tuple[int, int]
FEWEST_SINGLES = 2  # matrices of an expert's shape, from which a model without known names may be a mixture


def opened(ours: Fingerprint, theirs: Fingerprint, unnamed: bool) -> tuple[Fingerprint, Fingerprint]:
    """Both sides as they are, or with the stacks of one opened since the other has single matrices of their shape.

    `unnamed`: whether names of ours tell nothing. A single expert has a folded sketch, so the other side's singles are folded too.
    """
    stacked = _expert_shapes(theirs)
    if not stacked or not (_singles(ours, stacked) >= FEWEST_SINGLES if unnamed else _has_numbered(ours)):
        return ours, theirs
    return _folded(ours, stacked), _folded(_unstacked(theirs), stacked)


def numbered(role: str, expert: int) -> str:
    """The role of one expert that stands by itself."""
    return f"{role} {expert}"


def grown_from(place: Place) -> tuple[str, str] | None:
    """The family and role of the dense matrix that an expert which stands alone may be grown from."""
    role, _, number = place.role.rpartition(" ")
    return UPCYCLED_ROLES.get((place.family, role)) if number.isdigit() else None


def _has_numbered(model: Fingerprint) -> bool:
    return any(p.family == "expert" and p.role.rpartition(" ")[2].isdigit() for p in model.matrices.places)


def _expert_shapes(model: Fingerprint) -> set[Shape]:
    """Shapes of single experts in the stacks of a model that was read in full."""
    table = model.matrices
    if not len(model.experts):
        return set()
    at = np.flatnonzero(table.experts > 1)
    return set(zip((table.rows[at] // table.experts[at]).tolist(), table.columns[at].tolist(), strict=True))


def _singles(model: Fingerprint, wanted: set[Shape]) -> int:
    return len(_of_shapes(model.matrices, wanted))


def _of_shapes(table: Matrices, wanted: set[Shape]) -> list[int]:
    sizes = zip(table.rows.tolist(), table.columns.tolist(), table.experts.tolist(), strict=True)
    return [row for row, (rows, columns, experts) in enumerate(sizes) if experts == 1 and (rows, columns) in wanted]


def _folded(model: Fingerprint, wanted: set[Shape]) -> Fingerprint:
    """Single matrices of these shapes as they would be told as experts."""
    table = model.matrices
    at = [row for row in _of_shapes(table, wanted) if not is_folded(table, row)]
    probe = table.probe.copy()
    for row in at:
        probe[row] = _short(sketch.unit(sketch.folded(table.probe[row].astype(np.float64)))[0])
    numbers = table.numbers.copy()
    if numbers.shape[1]:
        numbers[at, 1] = 0  # of a single expert only the sum over its rows is known
    return replace(model, matrices=replace(table, probe=probe, numbers=numbers))


def _short(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float16]:
    """A folded sketch in the room of a whole one."""
    room = np.zeros(spec.PROBE_NUMBERS, np.float16)
    room[: spec.EXPERT_NUMBERS] = values
    return room


def _unstacked(model: Fingerprint) -> Fingerprint:
    """Each expert a row of its own in place of its stack's."""
    table, experts = model.matrices, model.experts
    stacks = {place: row for row, place in enumerate(table.places) if table.experts[row] > 1}
    rows, places, sketches, numbers = [], [], [], []
    for at, (place, expert) in enumerate(zip(experts.places, experts.expert.tolist(), strict=True)):
        for slot, role in enumerate(EXPERT_ROLES):
            stack = stacks.get(Place(place.component, place.layer, "expert", role))
            if stack is not None:
                rows.append(stack)
                places.append(Place(place.component, place.layer, "expert", numbered(role, expert)))
                sketches.append(_short(experts.sketch[at, slot * spec.EXPERT_NUMBERS : (slot + 1) * spec.EXPERT_NUMBERS]))
                numbers.append((experts.numbers[at, slot], 0))
    kept = np.array([row for row in range(len(table)) if row not in set(stacks.values())], np.int64)
    singles = _single_rows(table, rows, places, sketches, numbers)
    return replace(model, matrices=_together(chosen_rows(table, kept), singles), experts=_none(experts))


def _single_rows(
    table: Matrices, rows: Sequence[int], places: Sequence[Place], sketches: Sequence[Any], numbers: Sequence[tuple[int, int]]
) -> Matrices:
    """Rows of stacks as those of their single experts; what is not known of one expert is the stack's, or nothing."""
    at = np.array(rows, np.int64)
    found = chosen_rows(table, at)
    ones = np.ones_like(found.experts)
    return replace(
        found,
        places=tuple(places),
        rows=found.rows // found.experts,
        experts=ones,
        top=np.full_like(found.top, sketch.NO_BLOCK),
        spectrum=np.full_like(found.spectrum, np.nan),
        probe=np.array(sketches, np.float16),
        gram=np.zeros_like(found.gram),
        anchored=np.zeros_like(found.anchored),
        digest=np.zeros_like(found.digest),
        numbers=np.array(numbers, np.uint64),
        blocks=np.zeros_like(found.blocks),
    )


def _together(first: Matrices, second: Matrices) -> Matrices:
    columns: dict[str, Any] = {
        field: np.concatenate([getattr(first, field), getattr(second, field)]) for field in first.__struct_fields__ if field != "places"
    }
    return Matrices(places=first.places + second.places, **columns)


def _none(experts: Experts) -> Experts:
    return Experts((), experts.expert[:0], experts.sketch[:0], experts.numbers[:0])
