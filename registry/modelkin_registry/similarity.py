"""Cosines between the sketches of two fingerprints: every layer of one against every layer of the other, role by role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.fingerprint import SIDES, Fingerprint, Matrices
from modelkin_indexer.places import Place

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CHANNELS = ("probe", "gram", "anchored")
TOKEN_FAMILIES = ("embedding", "head")
RoleKey = tuple[str, str]


@dataclass(frozen=True)
class RoleSimilarity:
    """One role of one component in one channel.

    `cosines` is (query layers, relative layers), NaN where shapes differ or a side has no sketch; `query_rows` and `relative_rows` are
    the rows of the layers in the fingerprints' tables; `numbers` is how many independent numbers stand behind each sketch at most.
    """

    family: str
    role: str
    channel: str
    query_layers: Ints
    relative_layers: Ints
    query_rows: Ints
    relative_rows: Ints
    cosines: Floats
    numbers: int


def rows_by_role(places: tuple[Place, ...], component: str) -> dict[RoleKey, list[tuple[int, int]]]:
    """(family, role) -> [(layer, row)] in layer order."""
    found: dict[RoleKey, list[tuple[int, int]]] = defaultdict(list)
    for row, place in enumerate(places):
        if place.component == component:
            found[place.family, place.role].append((place.layer, row))
    return {key: sorted(pairs) for key, pairs in found.items()}


def matrix_similarities(query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str) -> list[RoleSimilarity]:
    """All roles that both sides have, in every channel that both sides have."""
    ours, theirs = query.matrices, relative.matrices
    our_rows, their_rows = rows_by_role(ours.places, query_component), rows_by_role(theirs.places, relative_component)
    found = []
    for family, role in sorted(our_rows.keys() & their_rows.keys()):
        a, b = np.array(our_rows[family, role]), np.array(their_rows[family, role])
        for channel in CHANNELS:
            cosines = _cosines(getattr(ours, channel), getattr(theirs, channel), a[:, 1], b[:, 1])
            if cosines is None:
                continue
            comparable = _comparable(channel, family, ours, theirs, a[:, 1], b[:, 1])
            cosines[~comparable] = np.nan
            if np.isfinite(cosines).any():
                found.append(
                    RoleSimilarity(
                        family, role, channel, a[:, 0], b[:, 0], a[:, 1], b[:, 1], cosines, numbers_behind(ours, a[0, 1], channel)
                    )
                )
    return found


def numbers_behind(table: Matrices, row: int, channel: str) -> int:
    """How many numbers a sketch is made of: sampled values, or a Gram matrix's entries. Small matrices have fewer than the sketch."""
    if channel == "probe":
        return sampled_rows(table.places[row].family, int(table.rows[row])) * int(table.columns[row])
    size = int(table.columns[row]) if table.side[row] == SIDES.index("in") else int(table.rows[row]) // int(table.experts[row])
    return size * (size + 1) // 2


def sampled_rows(family: str, rows: int) -> int:
    """How many rows of a matrix the probe channel reads."""
    matrix = spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS
    return min(rows, spec.TOKEN_BLOCKS * spec.TOKEN_BLOCK_ROWS if family in TOKEN_FAMILIES else matrix)


def cross_role_gram(query: Fingerprint, relative: Fingerprint, roles: Mapping[RoleKey, RoleKey], component: str) -> list[RoleSimilarity]:
    """Gram cosines between different roles (a mixture's experts against the dense matrices they may come from)."""
    our_rows, their_rows = rows_by_role(query.matrices.places, component), rows_by_role(relative.matrices.places, component)
    found = []
    for ours, theirs in roles.items():
        if ours not in our_rows or theirs not in their_rows or theirs in our_rows:
            continue
        a, b = np.array(our_rows[ours]), np.array(their_rows[theirs])
        cosines = _cosines(query.matrices.gram, relative.matrices.gram, a[:, 1], b[:, 1])
        if cosines is None:
            continue
        cosines[~_comparable("gram", ours[0], query.matrices, relative.matrices, a[:, 1], b[:, 1])] = np.nan
        if np.isfinite(cosines).any():
            numbers = numbers_behind(query.matrices, a[0, 1], "gram")
            found.append(RoleSimilarity(ours[0], ours[1], "gram", a[:, 0], b[:, 0], a[:, 1], b[:, 1], cosines, numbers))
    return found


def vector_similarities(query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str) -> list[RoleSimilarity]:
    """Centred cosines of norms, biases and other vectors; constant ones are left out."""
    ours, theirs = query.vectors, relative.vectors
    our_rows, their_rows = rows_by_role(ours.places, query_component), rows_by_role(theirs.places, relative_component)
    found = []
    for family, role in sorted(our_rows.keys() & their_rows.keys()):
        a, b = np.array(our_rows[family, role]), np.array(their_rows[family, role])
        cosines = _cosines(ours.sketch, theirs.sketch, a[:, 1], b[:, 1])
        if cosines is None:
            continue
        same_length = ours.length[a[:, 1]][:, None] == theirs.length[b[:, 1]][None, :]
        varied = ~ours.constant[a[:, 1]][:, None] & ~theirs.constant[b[:, 1]][None, :]
        cosines[~(same_length & varied)] = np.nan
        if np.isfinite(cosines).any():
            length = int(ours.length[a[0, 1]])
            found.append(RoleSimilarity(family, role, "vector", a[:, 0], b[:, 0], a[:, 1], b[:, 1], cosines, length))
    return found


def _cosines(ours: npt.NDArray[np.float16], theirs: npt.NDArray[np.float16], a: Ints, b: Ints) -> Floats | None:
    """Cosines of unit sketches; NaN where one is all zero. None where a side has no such channel."""
    if ours.shape[1] == 0 or theirs.shape[1] == 0:
        return None
    x, y = ours[a].astype(np.float32), theirs[b].astype(np.float32)
    x_length, y_length = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = (x @ y.T).astype(np.float64) / (x_length[:, None] * y_length[None, :])
    cosines[~((x_length > 0)[:, None] & (y_length > 0)[None, :])] = np.nan
    return np.asarray(np.clip(cosines, -1.0, 1.0), np.float64)


def _comparable(channel: str, family: str, ours: Matrices, theirs: Matrices, a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
    """Whether shapes allow the comparison: probe needs both sides equal (token tables: columns), gram the residual side, anchored none."""
    rows = ours.rows[a][:, None] == theirs.rows[b][None, :]
    columns = ours.columns[a][:, None] == theirs.columns[b][None, :]
    if channel == "probe":
        return np.asarray(columns if family in TOKEN_FAMILIES else rows & columns, np.bool_)
    if channel == "anchored":
        return np.ones_like(rows)
    reading = (ours.side[a] == SIDES.index("in"))[:, None] & (theirs.side[b] == SIDES.index("in"))[None, :]
    height = (ours.rows // ours.experts)[a][:, None] == (theirs.rows // theirs.experts)[b][None, :]
    return np.asarray(np.where(reading, columns, height), np.bool_)
