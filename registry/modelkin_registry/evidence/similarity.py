"""Cosines between the sketches of two fingerprints: every layer of one against every layer of the other, role by role."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer import sketch, spec
from modelkin_indexer.places import Place
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import KNOWN_LAYOUTS, SIDES, Matrices, Sketches
from modelkin_indexer.results.once import once
from modelkin_registry.evidence.side import Side

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TOKEN_FAMILIES = ("embedding", "head")
# As many numbers behind a sketch as make it as noisy as one of EXPERT_NUMBERS numbers is: 1/PROBE_NUMBERS + 1/(numbers - 1)
FOLDED_NUMBERS = 1 + round(1 / (1 / spec.EXPERT_NUMBERS - 1 / spec.PROBE_NUMBERS))
# Of a matrix's numbers one offset of all of them, at most, in what two sketches are made of: the multiple of the identity that is taken out
# of the sampled rows leaves a hole of that size in each, at the same place in every model, so equal numbers would agree with any others.
OFFSET = 0.3
MOST_NUMBERS = spec.PROBE_NUMBERS**2  # that are counted: more make a sketch no less noisy
RoleKey = tuple[str, str]
RoleRows = tuple[Ints, Ints]  # layers ascending, and the rows of the fingerprint's table that hold them


class Similarities(Struct, frozen=True):
    """Roles of one component that stand in the same layers on each side, in one channel; together, since arithmetic on one takes as long.

    `cosines` is (roles, query layers, relative layers), NaN where shapes differ or a side has no sketch; `query_rows` and `relative_rows`
    (roles, layers) are the rows of the fingerprints' tables; `numbers` is how many independent numbers stand behind each sketch at most.
    """

    roles: tuple[RoleKey, ...]
    channel: str
    query_layers: Ints
    relative_layers: Ints
    query_rows: Ints
    relative_rows: Ints
    cosines: Floats
    numbers: tuple[int, ...]

    def of(self, chosen: Sequence[int]) -> Similarities:
        """Some of the roles, by position; all of them where none is to be left out."""
        if len(chosen) == len(self.roles):
            return self
        at = list(chosen)
        return replace(
            self,
            roles=tuple(self.roles[position] for position in at),
            query_rows=self.query_rows[at],
            relative_rows=self.relative_rows[at],
            cosines=self.cosines[at],
            numbers=tuple(self.numbers[position] for position in at),
        )


class Counterparts(Struct, frozen=True):
    """Roles that both sides have, those in the same layers: layers (n,) and (m,), rows (roles, n) and (roles, m)."""

    roles: tuple[RoleKey, ...]
    query_layers: Ints
    relative_layers: Ints
    query_rows: Ints
    relative_rows: Ints


@lru_cache(maxsize=2 * KNOWN_LAYOUTS)
def rows_by_role(places: tuple[Place, ...], component: str) -> Mapping[RoleKey, RoleRows]:
    """(family, role) -> its layers and rows, in layer order."""
    found: dict[RoleKey, list[tuple[int, int]]] = defaultdict(list)
    for row, place in enumerate(places):
        if place.component == component:
            found[place.family, place.role].append((place.layer, row))
    columns = {key: np.array(sorted(pairs)).T.copy() for key, pairs in found.items()}
    return {key: (layers, rows) for key, (layers, rows) in columns.items()}


@lru_cache(maxsize=2 * KNOWN_LAYOUTS)
def counterparts(
    ours: tuple[Place, ...], theirs: tuple[Place, ...], query_component: str, relative_component: str
) -> tuple[Counterparts, ...]:
    """The roles that both sides have, in groups of equal layers."""
    our_rows, their_rows = rows_by_role(ours, query_component), rows_by_role(theirs, relative_component)
    groups: dict[tuple[bytes, bytes], list[RoleKey]] = defaultdict(list)
    for key in sorted(our_rows.keys() & their_rows.keys()):
        groups[our_rows[key][0].tobytes(), their_rows[key][0].tobytes()].append(key)
    return tuple(
        Counterparts(
            tuple(roles),
            our_rows[roles[0]][0],
            their_rows[roles[0]][0],
            np.array([our_rows[role][1] for role in roles]),
            np.array([their_rows[role][1] for role in roles]),
        )
        for roles in groups.values()
    )


def matrix_similarities(query: Side, relative: Side) -> list[Similarities]:
    """All roles that both sides have, in every channel that both sides have."""
    ours, theirs = query.matrices, relative.matrices
    most = min(_of_rank(query), _of_rank(relative))
    found = []
    for group in counterparts(ours.places, theirs.places, query.component, relative.component):
        flat = _both_flat(group, ours, theirs)
        for channel in CHANNELS:
            cosines = _cosines(ours.sketches[channel], theirs.sketches[channel], group.query_rows, group.relative_rows)
            if cosines is not None:
                able = comparable(channel, group, ours, theirs)
                cosines[~able if flat is None else ~able | flat] = np.nan
                behind = all_numbers_behind(ours, channel)
                numbers = tuple([behind[row] for row in group.query_rows[:, 0].tolist()])
                if channel == "probe":
                    numbers = tuple([min(n, most) for n in _of_shared_rows(cosines, group, ours, theirs, numbers)])
                found += _known(group, channel, cosines, numbers)
    return found


def _of_shared_rows(cosines: Floats, group: Counterparts, ours: Matrices, theirs: Matrices, numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Cosines of tables of unequal numbers of rows from the rows that both sketches hold, put in place; and the numbers behind them.

    A table that has one of its own size among the other side's is compared with those alone (a UNet's layers have many sizes); of two that
    hold no rows in common nothing is known.
    """
    equal = ours.rows[group.query_rows][:, :, None] == theirs.rows[group.relative_rows][:, None, :]
    if equal.all():
        return numbers
    behind = list(numbers)
    fits = equal.any(axis=2)[:, :, None] | equal.any(axis=1)[:, None, :]
    cosines[~equal & fits] = np.nan
    for role, i, j in np.argwhere(np.isfinite(cosines) & ~equal).tolist():
        a, b = int(group.query_rows[role, i]), int(group.relative_rows[role, j])
        sides = (int(ours.rows[a]), int(ours.top[a])), (int(theirs.rows[b]), int(theirs.top[b]))
        shared = sketch.shared_numbers(*sides, int(ours.columns[a]))
        x, y = ours.sketches["probe"][0][a, shared], theirs.sketches["probe"][0][b, shared]
        length = float(np.linalg.norm(x) * np.linalg.norm(y))
        cosines[role, i, j] = float(x @ y) / length if length > 0 else np.nan
        if length > 0:
            behind[role] = min(behind[role], int(shared.sum()))
    return tuple(behind)


def _both_flat(group: Counterparts, ours: Matrices, theirs: Matrices) -> npt.NDArray[np.bool_] | None:
    """Where both sides are little more than one number, repeated: boxes, cleared weights, constants whose values differ by rounding.

    None where no two are, as of most models.
    """
    (of_ours, most), (of_theirs, more) = _offsets(ours), _offsets(theirs)
    if math.sqrt(most * more) < OFFSET:
        return None
    a, b = of_ours[group.query_rows], of_theirs[group.relative_rows]
    return np.asarray(np.sqrt(a[:, :, None] * b[:, None, :]) >= OFFSET, np.bool_)


@once
def _offsets(table: Matrices) -> tuple[Floats, float]:
    """`offsets` of all rows, and the largest of them."""
    found = offsets(table, np.arange(len(table)))
    return found, float(found.max(initial=0.0))


def offsets(table: Matrices, rows: Ints) -> Floats:
    """Of these matrices the share that one offset has of what is left of a row once its mean has gone: m^2 of m^2 + columns sd^2."""
    offset = table.mean[rows].astype(np.float64) ** 2
    spread = table.columns[rows] * table.sd[rows].astype(np.float64) ** 2
    return np.asarray(np.divide(offset, offset + spread, out=np.zeros_like(offset), where=offset > 0))


def _of_rank(side: Side) -> int:
    """How many independent numbers the sampled rows of a low-rank change hold: its other factor may be a seed's, and so anybody's."""
    rank = side.about.adapter.get("rank") if side.about.adapter is not None and side.is_change else None
    return spec.MATRIX_BLOCKS * spec.MATRIX_BLOCK_ROWS * int(rank) if rank else MOST_NUMBERS


def _known(group: Counterparts, channel: str, cosines: Floats, numbers: tuple[int, ...]) -> list[Similarities]:
    """The group's roles that have a cosine at all."""
    known: list[bool] = np.asarray(np.isfinite(cosines).any(axis=(1, 2))).tolist()
    if not any(known):
        return []
    rows = group.query_layers, group.relative_layers, group.query_rows, group.relative_rows
    found = Similarities(group.roles, channel, *rows, cosines, numbers)
    return [found if all(known) else found.of([at for at, one in enumerate(known) if one])]


@once
def all_numbers_behind(table: Matrices, channel: str) -> list[int]:
    """`numbers_behind` of every matrix."""
    return [numbers_behind(table, row, channel) for row in range(len(table))]


def numbers_behind(table: Matrices, row: int, channel: str) -> int:
    """How many numbers a sketch is made of: sampled values, or a Gram matrix's entries. Small matrices have fewer than the sketch."""
    if channel == "probe" and is_folded(table, row):
        return FOLDED_NUMBERS
    if channel == "probe":
        return max(independent_rows(table, row) * (int(table.columns[row]) - 1), 1)  # rows and columns are centred
    size = int(table.columns[row]) if table.side[row] == SIDES.index("in") else int(table.rows[row]) // int(table.experts[row])
    return size * (size + 1) // 2


def is_folded(table: Matrices, row: int) -> bool:
    """Whether a sketch is a single expert's, which is folded to EXPERT_NUMBERS numbers: the rest of its room is empty."""
    return bool(folded(table)[row])


@once
def folded(table: Matrices) -> npt.NDArray[np.bool_]:
    """`is_folded` of every row."""
    return np.asarray((table.experts == 1) & ~table.sketches["probe"][0][:, spec.EXPERT_NUMBERS :].any(axis=1), np.bool_)


def sampled_rows(table: Matrices, row: int) -> int:
    """How many rows of a matrix the probe channel reads."""
    experts = int(table.experts[row])
    return sketch.sampled_rows(int(table.rows[row]) // experts, int(table.columns[row]), experts)


def independent_rows(table: Matrices, row: int) -> int:
    """How many of them are left when their columns have been centred."""
    experts = int(table.experts[row])
    return sketch.independent_rows(int(table.rows[row]) // experts, int(table.columns[row]), experts)


@once
def all_independent_rows(table: Matrices) -> Ints:
    """`independent_rows` of every matrix."""
    return np.array([independent_rows(table, row) for row in range(len(table))], np.int64)


def crossed_similarities(query: Side, relative: Side, roles: Mapping[RoleKey, RoleKey]) -> list[Similarities]:
    """Cosines between different roles: a mixture's experts against the dense matrices that they may come from.

    In the gram channel, which sums over a stack; and in the probe channel of experts that stand alone, as `gate 3` does.
    """
    our_rows, their_rows = (rows_by_role(side.matrices.places, side.component) for side in (query, relative))
    found = []
    for ours in our_rows:
        stack, _, number = ours[1].rpartition(" ")
        theirs, channel = (roles.get((ours[0], stack)), "probe") if number.isdigit() and stack else (roles.get(ours), "gram")
        if theirs is None or theirs not in their_rows or theirs in our_rows:
            continue
        (query_layers, a), (relative_layers, b) = our_rows[ours], their_rows[theirs]
        group = Counterparts((ours,), query_layers, relative_layers, a[None, :], b[None, :])
        cosines = _cosines(query.matrices.sketches[channel], relative.matrices.sketches[channel], group.query_rows, group.relative_rows)
        if cosines is not None:
            cosines[~comparable(channel, group, query.matrices, relative.matrices)] = np.nan
            found += _known(group, channel, cosines, (all_numbers_behind(query.matrices, channel)[a[0]],))
    return found


def vector_similarities(query: Side, relative: Side) -> list[Similarities]:
    """Centred cosines of norms, biases and other vectors; constant ones are left out."""
    ours, theirs = query.vectors, relative.vectors
    found = []
    for group in counterparts(ours.places, theirs.places, query.component, relative.component):
        a, b = group.query_rows, group.relative_rows
        cosines = _cosines(ours.sketches, theirs.sketches, a, b)
        if cosines is not None:
            same_length = ours.length[a][:, :, None] == theirs.length[b][:, None, :]
            varied = ~ours.constant[a][:, :, None] & ~theirs.constant[b][:, None, :]
            cosines[~(same_length & varied)] = np.nan
            found += _known(group, "vector", cosines, tuple(ours.length[a[:, 0]].tolist()))
    return found


def _cosines(ours: Sketches, theirs: Sketches, a: Ints, b: Ints) -> Floats | None:
    """Cosines (roles, n, m) of rows a (roles, n) and b (roles, m) of two tables of sketches; NaN where one is all zero.

    None where a side has no such channel.
    """
    (x, x_length), (y, y_length) = ours, theirs
    if x.shape[1] == 0 or y.shape[1] == 0:
        return None
    cosines = (x[a] @ y[b].transpose(0, 2, 1)).astype(np.float64)
    lengths = x_length[a][:, :, None] * y_length[b][:, None, :]
    if lengths.all():
        cosines /= lengths
    else:
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that a row of zeros shall have
            cosines /= lengths
    return np.minimum(np.maximum(cosines, -1.0, out=cosines), 1.0, out=cosines)  # np.clip takes twice as long for so few


def comparable(channel: str, group: Counterparts, ours: Matrices, theirs: Matrices) -> npt.NDArray[np.bool_]:
    """Whether shapes allow the comparison: probe needs both sides equal (token tables: columns), gram the residual side, anchored none."""
    a, b = group.query_rows, group.relative_rows
    if channel == "anchored":
        return np.ones((*a.shape, b.shape[1]), np.bool_)
    columns = ours.columns[a][:, :, None] == theirs.columns[b][:, None, :]
    if channel == "probe":
        tokens = np.array([family in TOKEN_FAMILIES for family, _ in group.roles])[:, None, None]
        return np.asarray(columns & (tokens | (ours.rows[a][:, :, None] == theirs.rows[b][:, None, :])), np.bool_)
    reading = (ours.side[a] == SIDES.index("in"))[:, :, None] & (theirs.side[b] == SIDES.index("in"))[:, None, :]
    height = (ours.rows[a] // ours.experts[a])[:, :, None] == (theirs.rows[b] // theirs.experts[b])[:, None, :]
    return np.asarray(np.where(reading, columns, height), np.bool_)
