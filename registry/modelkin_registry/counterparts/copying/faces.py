"""Tensors put together and cut apart, by digests that add up (level full).

A matrix is a set of rows, and turned round a set of columns; the digest of either is the sum of its lines'. So a tensor that several were
put together into, whichever way it is stored, has the sum of their digests: q, k and v in one, gate and up, experts in a stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import EXPERT_ROLES, Fingerprint
from modelkin_registry.counterparts.pairing import FEWEST_NUMBERS

Sums = npt.NDArray[np.uint64]
MOST_FACES = 512  # of one width on one side; of more only two or three are tried together, and of MOST_PAIRED only two
MOST_PARTS = 4  # q, k, v and the MLP's first matrix in one is the most that is known
ROOM = 16  # places of a table of bits for each digest
WORDS = (1 << 64) - 1  # digests that add up do so modulo 2^64


class Unit(Struct, frozen=True):
    """What a tensor, or one expert of a stack, is: its row of the table, and (lines, width, digest) along its rows and its columns."""

    row: int
    faces: tuple[tuple[int, int, int], ...]

    @property
    def size(self) -> int:
        return self.faces[0][0] * self.faces[0][1]


def units_of(model: Fingerprint, rows: Sequence[int]) -> list[Unit]:
    """These rows as units: a stack whose single experts are known as one each."""
    table = model.matrices
    single = _single_experts(model)
    found = []
    for row in rows:
        place, experts = table.places[row], int(table.experts[row])
        digests = single.get(place) if experts > 1 else None
        lines, width = int(table.rows[row]), int(table.columns[row])
        if digests is not None:
            found += [Unit(row, ((lines // experts, width, digest),)) for digest in digests]
        else:
            along, across = (int(one) for one in table.numbers[row])
            faces = tuple(face for face in ((lines, width, along), (width, lines, across)) if face[2])  # 0: not known, of single experts
            found += [Unit(row, faces)] if faces else []
    return [unit for unit in found if unit.size >= FEWEST_NUMBERS]


def _single_experts(model: Fingerprint) -> dict[Place, list[int]]:
    found: dict[Place, list[int]] = {}
    for place, digests in zip(model.experts.places, model.experts.numbers.tolist(), strict=True):
        for role, digest in zip(EXPERT_ROLES, digests, strict=True):
            if digest:
                found.setdefault(Place(place.component, place.layer, "expert", role), []).append(digest)
    return found


def united(ours: Sequence[Unit], theirs: Sequence[Unit]) -> list[tuple[list[int], list[int]]]:
    """(numbers of ours, numbers of theirs) that hold the same: one against one in any turn, then one against several, either way."""
    left = set(range(len(ours))), set(range(len(theirs)))
    found = list(_alike(ours, theirs, left))
    found += [([whole], parts) for whole, parts in _split(ours, theirs, *left)]
    found += [(parts, [whole]) for whole, parts in _split(theirs, ours, left[1], left[0])]
    return found


def _alike(ours: Sequence[Unit], theirs: Sequence[Unit], left: tuple[set[int], set[int]]) -> Iterator[tuple[list[int], list[int]]]:
    known: dict[tuple[int, int, int], list[int]] = {}
    for number in sorted(left[1]):
        for face in theirs[number].faces:
            known.setdefault(face, []).append(number)
    for number in sorted(left[0]):
        same = next((other for face in ours[number].faces for other in known.get(face, ()) if other in left[1]), None)
        if same is not None:
            left[0].discard(number)
            left[1].discard(same)
            yield [number], [same]


def _split(wholes: Sequence[Unit], parts: Sequence[Unit], left: set[int], parts_left: set[int]) -> Iterator[tuple[int, list[int]]]:
    """(whole, its parts), each part used once; the two sets of numbers that are left grow less."""
    for width in sorted({width for number in left for _, width, _ in wholes[number].faces}):
        pool = _Pool(parts, parts_left, width)
        for number in sorted(left):
            targets = [(lines, digest) for lines, across, digest in wholes[number].faces if across == width]
            chosen = next((some for target in targets if (some := pool.parts_of(*target))), None)
            if chosen:
                left.discard(number)
                parts_left.difference_update(chosen)
                yield number, chosen


class _Pool:
    """Faces of one width, and the sums of two of them."""

    def __init__(self, units: Sequence[Unit], left: set[int], width: int) -> None:
        self._left = left
        faces = [(number, lines, digest) for number in sorted(left) for lines, across, digest in units[number].faces if across == width]
        self._faces = faces[:MOST_FACES]
        digests = np.array([digest for _, _, digest in self._faces], np.uint64)
        first, second = np.triu_indices(len(self._faces), 1)
        self._pairs = first, second
        self._ones, self._twos = _Known(digests), _Known(digests[first] + digests[second])

    def parts_of(self, lines: int, digest: int) -> list[int]:
        """Two to MOST_PARTS units that are left, whose digests add up to this one and whose lines do too; none without such."""
        target, ones, twos = np.uint64(digest), self._ones, self._twos
        for one, other in ((ones, ones), (ones, twos), (twos, twos)):
            for at, to in other.find(target - one.values):
                faces = (*self._members(at, one is twos), *self._members(to, other is twos))
                numbers = [self._faces[face][0] for face in faces]
                whole = sum(self._faces[face][1] for face in faces) == lines
                if whole and len(set(numbers)) == len(numbers) and self._left.issuperset(numbers):
                    return numbers
        return []

    def _members(self, at: int, of_two: bool) -> tuple[int, ...]:
        return (int(self._pairs[0][at]), int(self._pairs[1][at])) if of_two else (at,)


class _Known:
    """Digests that others are looked for among: first by some of their bits, which leave few to be searched."""

    def __init__(self, values: Sums) -> None:
        self.values = values

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.values)

    @cached_property
    def _bits(self) -> tuple[np.uint64, npt.NDArray[np.bool_]]:
        """A mask, and which masked values occur: 1 in ROOM of those that may."""
        mask = np.uint64((1 << (ROOM * len(self.values)).bit_length()) - 1)
        there = np.zeros(int(mask) + 1, np.bool_)
        there[self.values & mask] = True
        return mask, there

    def find(self, wanted: Sums) -> Iterator[tuple[int, int]]:
        """(place in `wanted`, place here) of equal digests, in the order of the first."""
        mask, there = self._bits
        some = np.flatnonzero(there[wanted & mask])
        if not len(some):
            return
        at = np.minimum(np.searchsorted(self.values, wanted[some], sorter=self._order), len(self.values) - 1)
        for hit in np.flatnonzero(self.values[self._order[at]] == wanted[some]).tolist():
            yield int(some[hit]), int(self._order[at[hit]])
