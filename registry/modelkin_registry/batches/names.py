"""Whether names stand for the same tensors in many pairs at once: counterparts/matching.py where that takes no more than a look.

Names hold where their tensors agree, or where each tensor's best counterpart is its namesake, or where nothing agrees beyond chance. Any
other pair is asked in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.batches.cosines import Sides
from modelkin_registry.batches.layouts import Stack, layout_of
from modelkin_registry.batches.standing import least_z
from modelkin_registry.counterparts.assignment import LEVELS_OF_Z, PAIR_P, log_tail, log_ways
from modelkin_registry.counterparts.contents import value_keys
from modelkin_registry.counterparts.copying.copies import copy_of
from modelkin_registry.counterparts.matching import NAMES_AGREE, SETTLED_R, matched
from modelkin_registry.counterparts.pairing import FEWEST_NUMBERS, same_places, shapes
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import sketch_noise
from modelkin_registry.evidence.places import FAMILY_P

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class _Shape(Struct, frozen=True):
    """Rows of one shape on both sides, and where our rows' namesakes stand among theirs (-1 elsewhere)."""

    ours: Ints
    theirs: Ints
    namesake: Ints


def names_hold(sides: Sides, judge: Judge) -> Bools:
    """Of pairs (pairs,) whether the tensors of one name stand for each other, so that no others have to be sought."""
    queries, relatives = ([stack.models[at] for at in stack.at.tolist()] for stack in (sides.query, sides.relative))
    holds, settled = _settled(sides)
    left = np.flatnonzero(~holds)
    if len(left):
        some = sides.of(left)
        sure = _namesakes_are_nearest(some, judge) if _all_tell(some) else np.zeros(len(left), np.bool_)
        sure &= ~_equal_contents(some)
        nothing = ~settled[left]
        sure |= nothing & ~_equal_contents(some) & _nothing_agrees(some, judge) if _all_tell(some) else False
        holds[left] = sure
    for at in np.flatnonzero(~holds).tolist():
        holds[at] = not matched(queries[at], relatives[at], judge)
    return holds


def copied(sides: Sides) -> Bools:
    """Of pairs (pairs,) whether one holds all that the other does: what digests of all that they hold tell."""
    may = _equal_contents(sides) if _full(sides) else _equal_sketch(sides)
    found = np.zeros(sides.count, np.bool_)
    for at in np.flatnonzero(may).tolist():
        query, relative = sides.query.models[sides.query.at[at]], sides.relative.models[sides.relative.at[at]]
        found[at] = copy_of(query, relative) is not None
    return found


def _full(sides: Sides) -> bool:
    return all(stack.models[0].matrices.digest.shape[1] for stack in (sides.query, sides.relative))


def _equal_contents(sides: Sides) -> Bools:
    """Whether any matrix that says something is in both (level full); nothing is known of it at level probe."""
    if not _full(sides):
        return np.zeros(sides.count, np.bool_)
    ours, theirs = (stack.column("keys", lambda model: value_keys(model.matrices)) for stack in (sides.query, sides.relative))
    equal = (ours[sides.query.at][:, :, None] == theirs[sides.relative.at][:, None, :]) & np.asarray(ours[sides.query.at] != 0)[:, :, None]
    silent = ~np.asarray((ours != 0).any(axis=1))[sides.query.at]  # nothing of it can be told by digests
    return np.asarray(equal.any(axis=(1, 2)) | silent, np.bool_)


def _equal_sketch(sides: Sides) -> Bools:
    """Whether the query's largest matrix that says something has its length among the relative's; true where none says anything."""
    sizes = np.where(sides.query.matrices("sd") > 0, layout_of(sides.query.models[0]).parameters, 0)
    largest, silent = sizes.argmax(axis=1), np.asarray(~sizes.any(axis=1))
    scale = np.take_along_axis(sides.query.matrices("scale"), largest[:, None], axis=1)[sides.query.at]
    return np.asarray((sides.relative.matrices("scale")[sides.relative.at] == scale).any(axis=1) | silent[sides.query.at], np.bool_)


def _settled(sides: Sides) -> tuple[Bools, Bools]:
    """Whether names settle so much that contents are not asked; and whether they settle anything."""
    ours, theirs = sides.query.models[0].matrices, sides.relative.models[0].matrices
    named = same_places(ours.places, theirs.places)
    at = np.flatnonzero(named >= 0)
    same = (
        (ours.rows[at] == theirs.rows[named[at]])
        & (ours.columns[at] == theirs.columns[named[at]])
        & (ours.experts[at] == theirs.experts[named[at]])
    )
    at = at[same]
    (x, x_length), (y, y_length) = _sketches(sides.query), _sketches(sides.relative)
    a, b = sides.query.at[:, None], sides.relative.at[:, None]
    products = np.abs(np.linalg.vecdot(x[a, at], y[b, named[at]]))
    near = (products >= SETTLED_R * x_length[a, at] * y_length[b, named[at]]) & (sides.query.matrices("sd")[a, at] > 0)
    parameters = layout_of(sides.query.models[0]).parameters
    return near @ parameters[at] >= NAMES_AGREE * parameters.sum(), near.any(axis=1)


def _sketches(stack: Stack) -> tuple[Floats, Floats]:
    """Sketches and their lengths, (models, rows, ...)."""
    return (
        stack.column(("matrices", "probe", "values"), lambda model: model.matrices.sketches["probe"][0]),
        stack.column(("matrices", "probe", "lengths"), lambda model: model.matrices.sketches["probe"][1]),
    )


def _all_tell(sides: Sides) -> bool:
    """Whether all matrices of all of these say something: else what is compared differs from pair to pair."""
    return all(bool((stack.matrices("sd") > 0).all()) for stack in (sides.query, sides.relative))


def _shapes(sides: Sides) -> list[_Shape] | None:
    """Rows by shape; None where tables of unequal heights may stand for each other."""
    query, relative = sides.query.models[0], sides.relative.models[0]
    mine, their = (shapes(model, _large(model)) for model in (query, relative))
    alone = [
        [row for shape, rows in groups.items() if shape not in others for row in rows] for groups, others in ((mine, their), (their, mine))
    ]
    tall = [[row for row in rows if layout_of(model).tall[row]] for rows, model in zip(alone, (query, relative), strict=True)]
    if all(tall):
        return None
    named = same_places(query.matrices.places, relative.matrices.places)
    found = []
    for shape in [shape for shape in mine if shape in their]:
        place = {row: at for at, row in enumerate(their[shape])}
        namesake = np.array([place.get(int(named[row]), -1) for row in mine[shape]], np.int64)
        found.append(_Shape(np.array(mine[shape]), np.array(their[shape]), namesake))
    return found


def _large(model: Fingerprint) -> Sequence[int]:
    return np.flatnonzero(model.matrices.parameters >= FEWEST_NUMBERS).tolist()


def _z(sides: Sides, shape: _Shape, judge: Judge) -> Floats:
    """|cosine| in standard deviations of strangers', (pairs, ours, theirs)."""
    (x, x_length), (y, y_length) = _sketches(sides.query), _sketches(sides.relative)
    a, b = sides.query.at[:, None], sides.relative.at[:, None]
    lengths = x_length[a, shape.ours][:, :, None] * y_length[b, shape.theirs][:, None, :]
    products = x[a, shape.ours] @ y[b, shape.theirs].transpose(0, 2, 1)
    cosines = np.divide(products, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    ours, theirs = sides.query.models[0].matrices.places, sides.relative.models[0].matrices.places
    families = {ours[row].family for row in shape.ours.tolist()} | {theirs[row].family for row in shape.theirs.tolist()}
    noise = sketch_noise("probe", int(layout_of(sides.query.models[0]).behind["probe"][shape.ours[0]]))
    return np.asarray(np.abs(cosines) / math.hypot(noise, max(judge.between_models(family, "probe") for family in families)), np.float64)


def _namesakes_are_nearest(sides: Sides, judge: Judge) -> Bools:
    """Whether every tensor's best counterpart is its namesake, and certainly so."""
    known = _shapes(sides)
    sure = np.full(sides.count, known is not None)
    for shape in known or ():
        z = _z(sides, shape, judge)
        best = z.argmax(axis=2)
        high = np.take_along_axis(z, best[:, :, None], axis=2)[:, :, 0] >= least_z(PAIR_P, len(shape.ours) + len(shape.theirs) - 1)
        sure &= ((best == shape.namesake) & high).all(axis=1)
    return sure


def _nothing_agrees(sides: Sides, judge: Judge) -> Bools:
    """Whether all that agrees may be chance, even if each row could have its best: assignment.best_p of many pairs."""
    known = _shapes(sides)
    if known is None:
        return np.zeros(sides.count, np.bool_)
    if not known:
        return np.ones(sides.count, np.bool_)
    best = [_z(sides, shape, judge).max(axis=2) for shape in known]
    least = np.zeros(sides.count)
    for level in LEVELS_OF_Z:
        strong = [one >= level for one in best]
        counts = np.array([one.sum(axis=1) for one in strong])
        total = np.sum([np.where(mask, one, 0.0).sum(axis=1) for mask, one in zip(strong, best, strict=True)], axis=0)
        ways = sum(_ways(len(shape.ours), len(shape.theirs))[count] for shape, count in zip(known, counts, strict=True))
        every = counts.sum(axis=0)
        some = every > 0
        tail = np.array([log_tail(one) for one in (total[some] / np.sqrt(every[some])).tolist()])
        least[some] = np.minimum(least[some], np.asarray(ways)[some] + tail)
    return np.asarray(np.exp(np.minimum(0.0, least + math.log(len(LEVELS_OF_Z)))) * judge.searched > FAMILY_P, np.bool_)


@lru_cache(maxsize=256)
def _ways(rows: int, columns: int) -> Floats:
    """`assignment.log_ways` of every number of pairs up to that of the rows."""
    return np.array([log_ways(count, rows, columns) for count in range(rows + 1)])
