"""Cosines between the sketches of two fingerprints: every layer of one against every layer of the other, role by role."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modelkin_indexer import spec
from modelkin_indexer.fingerprint import CHANNELS, KNOWN_LAYOUTS, SIDES, Fingerprint, Matrices, Sketches
from modelkin_indexer.places import Place

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TOKEN_FAMILIES = ("embedding", "head")
RoleKey = tuple[str, str]
RoleRows = tuple[Ints, Ints]  # layers ascending, and the rows of the fingerprint's table that hold them


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


@lru_cache(maxsize=2 * KNOWN_LAYOUTS)
def rows_by_role(places: tuple[Place, ...], component: str) -> Mapping[RoleKey, RoleRows]:
    """(family, role) -> its layers and rows, in layer order."""
    found: dict[RoleKey, list[tuple[int, int]]] = defaultdict(list)
    for row, place in enumerate(places):
        if place.component == component:
            found[place.family, place.role].append((place.layer, row))
    columns = {key: np.array(sorted(pairs)).T.copy() for key, pairs in found.items()}
    return {key: (layers, rows) for key, (layers, rows) in columns.items()}


def matrix_similarities(query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str) -> list[RoleSimilarity]:
    """All roles that both sides have, in every channel that both sides have."""
    ours, theirs = query.matrices, relative.matrices
    our_rows, their_rows = rows_by_role(ours.places, query_component), rows_by_role(theirs.places, relative_component)
    found = []
    for family, role in sorted(our_rows.keys() & their_rows.keys()):
        (query_layers, a), (relative_layers, b) = our_rows[family, role], their_rows[family, role]
        for channel in CHANNELS:
            cosines = _cosines(ours.sketches[channel], theirs.sketches[channel], a, b)
            if cosines is None:
                continue
            comparable = _comparable(channel, family, ours, theirs, a, b)
            cosines[~comparable] = np.nan
            if np.isfinite(cosines).any():
                numbers = numbers_behind(ours, a[0], channel)
                found.append(RoleSimilarity(family, role, channel, query_layers, relative_layers, a, b, cosines, numbers))
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
        (query_layers, a), (relative_layers, b) = our_rows[ours], their_rows[theirs]
        cosines = _cosines(query.matrices.sketches["gram"], relative.matrices.sketches["gram"], a, b)
        if cosines is None:
            continue
        cosines[~_comparable("gram", ours[0], query.matrices, relative.matrices, a, b)] = np.nan
        if np.isfinite(cosines).any():
            numbers = numbers_behind(query.matrices, a[0], "gram")
            found.append(RoleSimilarity(ours[0], ours[1], "gram", query_layers, relative_layers, a, b, cosines, numbers))
    return found


def vector_similarities(query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str) -> list[RoleSimilarity]:
    """Centred cosines of norms, biases and other vectors; constant ones are left out."""
    ours, theirs = query.vectors, relative.vectors
    our_rows, their_rows = rows_by_role(ours.places, query_component), rows_by_role(theirs.places, relative_component)
    found = []
    for family, role in sorted(our_rows.keys() & their_rows.keys()):
        (query_layers, a), (relative_layers, b) = our_rows[family, role], their_rows[family, role]
        cosines = _cosines(ours.sketches, theirs.sketches, a, b)
        if cosines is None:
            continue
        same_length = ours.length[a][:, None] == theirs.length[b][None, :]
        varied = ~ours.constant[a][:, None] & ~theirs.constant[b][None, :]
        cosines[~(same_length & varied)] = np.nan
        if np.isfinite(cosines).any():
            length = int(ours.length[a[0]])
            found.append(RoleSimilarity(family, role, "vector", query_layers, relative_layers, a, b, cosines, length))
    return found


def _cosines(ours: Sketches, theirs: Sketches, a: Ints, b: Ints) -> Floats | None:
    """Cosines of rows a and b of two tables of sketches; NaN where one is all zero. None where a side has no such channel."""
    (x, x_length), (y, y_length) = ours, theirs
    if x.shape[1] == 0 or y.shape[1] == 0:
        return None
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that a row of zeros shall have
        cosines = (x[a] @ y[b].T).astype(np.float64) / (x_length[a][:, None] * y_length[b][None, :])
    return np.asarray(cosines.clip(-1.0, 1.0, out=cosines), np.float64)


def _comparable(channel: str, family: str, ours: Matrices, theirs: Matrices, a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
    """Whether shapes allow the comparison: probe needs both sides equal (token tables: columns), gram the residual side, anchored none."""
    if channel == "anchored":
        return np.ones((len(a), len(b)), np.bool_)
    columns = ours.columns[a][:, None] == theirs.columns[b][None, :]
    if channel == "probe":
        rows = ours.rows[a][:, None] == theirs.rows[b][None, :]
        return np.asarray(columns if family in TOKEN_FAMILIES else rows & columns, np.bool_)
    reading = (ours.side[a] == SIDES.index("in"))[:, None] & (theirs.side[b] == SIDES.index("in"))[None, :]
    height = (ours.rows[a] // ours.experts[a])[:, None] == (theirs.rows[b] // theirs.experts[b])[None, :]
    return np.asarray(np.where(reading, columns, height), np.bool_)
