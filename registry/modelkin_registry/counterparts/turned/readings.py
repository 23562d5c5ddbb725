"""A model whose names tell nothing, in other coordinates: its matrices by what the anchored channel would be of each.

Such a model has several readings (`Matrices.readings`): each table that may hold the tokens, each side that may face the residual stream.
One way to read all of it at once is right, and all others look like strangers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.gram_vectors import without_leading
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_registry.counterparts.assignment import Group, assigned
from modelkin_registry.counterparts.pairing import SKETCH, Pair, Rows
from modelkin_registry.counterparts.turned.ways import IN, OUT, Way, all_ways, faced_as, table_count
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import NORMAL_PER_MAD, median, sketch_noise

Floats = npt.NDArray[np.float64]
Compared = Callable[[Floats], npt.NDArray[np.floating[Any]]]
# Anchored sketches as they are; and without the strongest direction of each, which many layers of a model may share (r 0.8 and more).
COMPARED: tuple[Compared, ...] = (lambda sketches: sketches, without_leading)
SAME_R = 0.9995  # readings are kept in bytes: equal ones may show no more
FEWEST_ROWS = 3  # of one size, among which a pair can stand out
TOKENS, HEAD = ("embedding", "token"), ("head", "head")


def has_readings(model: Fingerprint) -> bool:
    """Whether this was read in every way that its shapes allow, since its names tell none."""
    return bool(model.matrices.readings.shape[1])


def read_as(ours: Fingerprint, theirs: Fingerprint, mine: Sequence[int], others: Sequence[int], judge: Judge) -> list[Pair]:
    """Pairs of these rows in that way to read us that makes most of them; none where all that agrees may be chance."""
    if not has_readings(ours) or not theirs.matrices.anchored.shape[1]:
        return []
    faced = [row for row in others if theirs.matrices.anchored[row].any()]
    tables = _tables(ours.matrices)
    ways = all_ways(ours.matrices)
    looks = [(way, compared) for way in ways for compared in COMPARED]
    found = [_paired(_Look(ours, theirs, *look), mine, faced, judge.searched * len(looks), judge) for look in looks]
    best, (way, _) = max(zip(found, looks, strict=True), key=lambda entry: len(entry[0]))
    return [*best, *_token_tables(tables, way, theirs.matrices, set(mine), set(others))] if best else []


class _Look(Struct, frozen=True):
    """Both models, one way to read ours, and how sketches are compared."""

    ours: Fingerprint
    theirs: Fingerprint
    way: Way
    compared: Compared


def _paired(look: _Look, mine: Sequence[int], others: Sequence[int], looks: int, judge: Judge) -> list[Pair]:
    """Pairs whose sides that do not face the stream are of one length: the stream itself may be wider or narrower."""
    table, their = look.theirs.matrices, dict[Hashable, Rows]()
    for row in others:
        their.setdefault((_other_length(table, row), int(table.side[row])), []).append(row)
    groups = []
    for (length, sides), rows in _faces(look.ours.matrices, look.way, mine).items():
        blocks = [their[length, side] for side in sides if len(their.get((length, side), ())) >= FEWEST_ROWS]
        if blocks and len(rows) >= FEWEST_ROWS:
            z = np.hstack([_beyond_common(look, rows, block, judge) for block in blocks])
            groups.append(Group(rows, [row for block in blocks for row in block], z))
    return assigned(groups, looks)


def _faces(table: Matrices, way: Way, rows: Sequence[int]) -> dict[tuple[int, tuple[int, ...]], Rows]:
    """Rows that have a reading, by the length of the side that does not face the stream and by which it may be: of a square one both."""
    vectors = table.readings.reshape(len(table), -1, 2, spec.GRAM_NUMBERS)[:, way.table]
    there = (vectors != 0).any(axis=2)
    found: dict[tuple[int, tuple[int, ...]], Rows] = {}
    for row in rows:
        reads, writes = there[row].tolist()
        if reads or writes:
            sides = (IN, OUT) if reads and writes else (IN,) if reads != way.turned else (OUT,)
            found.setdefault((int(table.rows[row] if reads else table.columns[row]), sides), []).append(row)
    return found


def _other_length(table: Matrices, row: int) -> int:
    return int(table.columns[row] if table.side[row] == OUT else table.rows[row] // table.experts[row])


def _beyond_common(look: _Look, mine: Rows, others: Rows, judge: Judge) -> Floats:
    """How far each cell (mine, others) is beyond its row and its column, in standard deviations of strangers'; `others` face one side.

    Layers of one model share dominant directions, and models that share a tokenizer a little of them: a pair has to stand out from the
    median of its row and of its column. Fisher's transformation gives cosines one noise whatever their size (Fisher 1915).
    """
    table = look.theirs.matrices
    told = _units(look.compared(table.anchored[others].astype(np.float64)))
    faced = _units(look.compared(faced_as(look.ours.matrices, look.way, mine, [int(table.side[others[0]])] * len(mine))))
    cosines = np.arctanh(np.clip(faced @ told.T, -SAME_R, SAME_R))
    common = np.maximum(np.median(cosines, axis=1)[:, None], np.median(cosines, axis=0)[None, :])
    beyond = cosines - np.maximum(common, 0.0)
    spread = NORMAL_PER_MAD * median(np.abs(beyond - median(beyond.ravel())).ravel())
    between = max(judge.between_models(table.places[row].family, "anchored") for row in others)
    noise = math.hypot(sketch_noise("anchored", spec.GRAM_NUMBERS**2), between)
    return np.asarray(np.maximum(beyond, 0.0) / max(noise, spread))


def _units(vectors: npt.NDArray[np.floating[Any]]) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), np.float64)


def _tables(table: Matrices) -> list[Rows]:
    """Rows of the tables that may hold tokens, in the order of the readings; those of the same numbers are one."""
    able = ~table.readings.any(axis=1)
    tallest = int(np.where(able, table.rows, 0).max(initial=0))
    found: list[Rows] = []
    for row in np.flatnonzero(able & (table.rows == tallest)).tolist():
        twin = next((rows for rows in found if (table.digest[rows[0]] == table.digest[row]).all()), None)
        if twin is None:
            found.append([row])
        else:
            twin.append(row)
    return found[: table_count(table)]


def _token_tables(tables: Sequence[Rows], way: Way, other: Matrices, mine: set[int], others: set[int]) -> Iterator[Pair]:
    """The table whose tokens span the frame is the embedding, the other one the head."""
    places = {place[2:]: row for row, place in enumerate(other.places)}
    for number, rows in enumerate(tables):
        role = TOKENS if number == way.table else HEAD
        if role in places and places[role] in others and rows[0] in mine:
            yield Pair(rows[0], places[role], SKETCH)
