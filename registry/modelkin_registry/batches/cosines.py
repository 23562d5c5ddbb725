"""Cosines of many pairs of fingerprints at once, as evidence/similarity.py has them of one: pairs of equal layouts in one product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.batches.layouts import Stack, layout_of, own_numbers
from modelkin_registry.evidence.nulls import SKETCH_NUMBERS
from modelkin_registry.evidence.places import STRUCTURED_ROLES
from modelkin_registry.evidence.similarity import OFFSET, Counterparts, RoleKey, comparable, counterparts, offsets

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Sides(Struct, frozen=True, eq=False):
    """Pairs of fingerprints: those that ask, of one layout, and those that they are held against, of one layout; and the components."""

    query: Stack
    relative: Stack
    components: tuple[str, str]

    @property
    def count(self) -> int:
        return len(self.query.at)

    def of(self, chosen: Ints) -> Sides:
        """Some of the pairs."""
        return Sides(self.query.of(chosen), self.relative.of(chosen), self.components)

    def turned(self) -> Sides:
        """The same pairs the other way round."""
        return Sides(self.relative, self.query, self.components[::-1])


class Block(Struct, frozen=True):
    """Roles that stand in the same layers on each side, in one channel, of all pairs.

    `cosines` (pairs, roles, query layers, relative layers), NaN where nothing can be held against each other; `noise` (pairs, roles) is
    that of two strangers' sketches; `query_rows` (roles, query layers) and `relative_rows` are rows of the fingerprints' tables.
    """

    roles: tuple[RoleKey, ...]
    channel: str
    query_layers: Ints
    relative_layers: Ints
    query_rows: Ints
    relative_rows: Ints
    cosines: Floats
    noise: Floats

    def of(self, roles: Sequence[int]) -> Block:
        """Some of the roles, by position."""
        at = list(roles)
        if len(at) == len(self.roles):
            return self
        return replace(
            self,
            roles=tuple(self.roles[position] for position in at),
            query_rows=self.query_rows[at],
            relative_rows=self.relative_rows[at],
            cosines=self.cosines[:, at],
            noise=self.noise[:, at],
        )


def matrix_blocks(sides: Sides) -> tuple[list[Block], Bools]:
    """All roles that both sides have, in every channel that both have; and which pairs (pairs,) have to be looked at one by one."""
    ours, theirs = sides.query.models[0].matrices, sides.relative.models[0].matrices
    found: list[Block] = []
    apart = np.zeros(sides.count, np.bool_)
    even = [stack.column("offset", _offsets)[stack.at] for stack in (sides.query, sides.relative)]
    for group in counterparts(ours.places, theirs.places, *sides.components):
        flat = np.sqrt(even[0][:, group.query_rows][:, :, :, None] * even[1][:, group.relative_rows][:, :, None, :]) >= OFFSET
        seen = np.zeros(sides.count, np.bool_)
        for channel in CHANNELS:
            if getattr(ours, channel).shape[1] == 0 or getattr(theirs, channel).shape[1] == 0:
                continue
            able = comparable(channel, group, ours, theirs)
            cosines = _cosines(sides, ("matrices", channel), partial(_sketches, channel=channel), group)
            cosines[np.broadcast_to(~able, cosines.shape) | flat] = np.nan
            if channel == "probe":
                apart |= bool((able & (ours.rows[group.query_rows][:, :, None] != theirs.rows[group.relative_rows][:, None, :])).any())
                numbers = sides.query.column("behind", own_numbers)[sides.query.at][:, group.query_rows[:, 0]]
            else:
                numbers = np.broadcast_to(layout_of(sides.query.models[0]).behind[channel][group.query_rows[:, 0]], cosines.shape[:2])
            blocks = _known(group, channel, cosines, numbers)
            seen |= np.logical_or.reduce([np.isfinite(block.cosines).any(axis=(1, 2, 3)) for block in blocks] or [seen])
            found += blocks
        apart |= seen.any() & ~seen  # without a single cosine such layers are not among those that are mapped
    trusted = [(block, [at for at, role in enumerate(block.roles) if role not in STRUCTURED_ROLES]) for block in found]
    return [block.of(roles) for block, roles in trusted if roles], apart


def vector_blocks(sides: Sides) -> list[Block]:
    """Norms, biases and other vectors; constant ones are left out."""
    ours, theirs = sides.query.models[0].vectors, sides.relative.models[0].vectors
    constant = [stack.vectors("constant")[stack.at].astype(bool) for stack in (sides.query, sides.relative)]
    found: list[Block] = []
    for group in counterparts(ours.places, theirs.places, *sides.components):
        a, b = group.query_rows, group.relative_rows
        same = ours.length[a][:, :, None] == theirs.length[b][:, None, :]
        cosines = _cosines(sides, ("vectors",), lambda model: model.vectors.sketches, group)
        still = constant[0][:, a][:, :, :, None] | constant[1][:, b][:, :, None, :]
        cosines[np.broadcast_to(~same, cosines.shape) | still] = np.nan
        numbers = np.broadcast_to(ours.length[a[:, 0]].astype(np.int64), cosines.shape[:2])
        found += _known(group, "vector", cosines, numbers)
    return found


def _cosines(sides: Sides, name: tuple[str, ...], sketches: Callable[[Fingerprint], Any], group: Counterparts) -> Floats:
    """(pairs, roles, n, m); NaN where one is all zero."""
    columns = []
    for stack, rows in ((sides.query, group.query_rows), (sides.relative, group.relative_rows)):
        values = stack.column((*name, "values"), lambda model: sketches(model)[0])
        lengths = stack.column((*name, "lengths"), lambda model: sketches(model)[1])
        columns.append((values[stack.at[:, None, None], rows], lengths[stack.at[:, None, None], rows]))
    (x, x_length), (y, y_length) = columns
    with np.errstate(invalid="ignore"):
        cosines = (x @ y.transpose(0, 1, 3, 2)).astype(np.float64) / (x_length[:, :, :, None] * y_length[:, :, None, :])
    return np.asarray(cosines.clip(-1.0, 1.0, out=cosines), np.float64)


def _sketches(model: Fingerprint, channel: str) -> Any:
    return model.matrices.sketches[channel]


def _known(group: Counterparts, channel: str, cosines: Floats, numbers: Ints) -> list[Block]:
    """The group's roles that have a cosine at all, in any of the pairs."""
    roles = np.flatnonzero(np.isfinite(cosines).any(axis=(0, 2, 3))).tolist()
    if not roles:
        return []
    noise = np.sqrt(1.0 / SKETCH_NUMBERS[channel] + 1.0 / np.maximum(numbers - 1, 1))
    block = Block(group.roles, channel, group.query_layers, group.relative_layers, group.query_rows, group.relative_rows, cosines, noise)
    return [block.of(roles)]


def _offsets(model: Fingerprint) -> Floats:
    return offsets(model.matrices, np.arange(len(model.matrices)))
