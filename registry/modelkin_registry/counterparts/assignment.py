"""The second step: sketches of tensors of one shape, each of ours against each of theirs, assigned all at once.

Whether any pair is made at all is decided on all of them together. Of n x m cells of chance the best assignment always looks like
something, so its size is held against all the assignments that it is the best of: with K pairs whose z add up to S, chance gives as much
with p at most (number of ways to choose K pairs) x P(normal > S / sqrt(K)). Of strangers, then, no pair is made.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import sketch
from modelkin_indexer.results.fingerprint import Fingerprint, Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.counterparts.linear_assignment import largest_sum
from modelkin_registry.counterparts.pairing import FEWEST_NUMBERS, SKETCH, Pair, Rows, shapes
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import sketch_noise, two_sided_p
from modelkin_registry.evidence.places import FAMILY_P
from modelkin_registry.evidence.similarity import all_numbers_behind

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
LEVELS_OF_Z = (3.3, 4.5, 6.0)  # assigned cells from which z are counted together: many weak ones, or few strong ones
PAIR_P = 1e-3  # once some pairs stand, the chance that one more is not the best by accident, among those of its row and column
ONE_THREAD = 1 << 18  # multiplications of one product from which OpenBLAS takes several threads
LARGE = 1 << 26  # and from which they are worth it
ROUNDS = 3  # times that the rest is looked at again, among ever fewer


class Group(Struct, frozen=True):
    """Rows of one shape on both sides, and |cosine| in standard deviations of strangers' (ours, theirs)."""

    ours: Rows
    theirs: Rows
    z: Floats


def by_sketches(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int], judge: Judge) -> list[Pair]:
    """Pairs among these rows, none where all that agrees may be chance."""
    return assigned(list(_groups(query, relative, ours, theirs, judge)), judge.searched)


def assigned(groups: Sequence[Group], looks: int) -> list[Pair]:
    """Pairs among the rows of these groups, none where all that agrees may be chance in so many looks."""
    if not groups or best_p([group.z.max(axis=1) for group in groups], groups) * looks > FAMILY_P:
        return []  # not even if each row could have its best
    chosen = [_assigned(group.z) for group in groups]
    if best_p([group.z[at] for group, at in zip(groups, chosen, strict=True)], groups) * looks > FAMILY_P:
        return []
    found: list[Pair] = []
    for _ in range(ROUNDS):
        more = [pair for group in groups for pair in _sure(group)]
        found += more
        taken = {pair.ours for pair in more}, {pair.theirs for pair in more}
        groups = [left for group in groups if (left := _without(group, *taken)) is not None]
        if not more:
            break
    return found


def repeated(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int], judge: Judge) -> list[Pair]:
    """Of rows that are left on our side those that are near a row of theirs that has a pair already, as layers that were repeated."""
    found = []
    for group in _groups(query, relative, ours, theirs, judge):
        for row, best in enumerate(group.z.argmax(axis=1).tolist()):
            if two_sided_p(float(group.z[row, best]), len(group.theirs)) <= PAIR_P:
                found.append(Pair(group.ours[row], group.theirs[best], SKETCH, repeats=True))
    return found


def _groups(query: Fingerprint, relative: Fingerprint, ours: Sequence[int], theirs: Sequence[int], judge: Judge) -> Iterator[Group]:
    table, other = query.matrices, relative.matrices
    mine, their = _telling_shapes(query, ours), _telling_shapes(relative, theirs)
    for shape in [shape for shape in mine if shape in their]:
        a, b = mine[shape], their[shape]
        cosines = _cosines(table, other, a, b)
        yield Group(a, b, np.abs(cosines) / _spread(table, other, a, b, judge))
    yield from _unequal_heights(query, relative, mine, their, judge)


def _telling_shapes(model: Fingerprint, rows: Sequence[int]) -> Mapping[Hashable, Rows]:
    """The telling ones of these rows by shape; those of the whole table worked out once, for strangers ask for no others."""
    if len(rows) < len(model.matrices):
        return shapes(model, _telling(model.matrices, rows))
    return _all_shapes(model)


@once
def _all_shapes(model: Fingerprint) -> Mapping[Hashable, Rows]:
    return shapes(model, _telling(model.matrices, range(len(model.matrices))))


def _telling(table: Matrices, rows: Sequence[int]) -> Rows:
    at = np.asarray(rows, np.int64)
    return at[(table.sd[at] > 0) & (table.parameters[at] >= FEWEST_NUMBERS)].tolist() if len(at) else []


def _cosines(table: Matrices, other: Matrices, a: Rows, b: Rows) -> Floats:
    (x, x_length), (y, y_length) = table.sketches["probe"], other.sketches["probe"]
    lengths = x_length[a][:, None] * y_length[b][None, :]
    return np.asarray(np.divide(products(x[a], y[b].T), lengths, out=np.zeros_like(lengths), where=lengths > 0), np.float64)


def products(x: Singles, y: Singles) -> Singles:
    """x @ y, a small one in pieces that BLAS does in one thread: for several it waits, 30 ms instead of 1 on a busy machine."""
    size = ONE_THREAD // max(y.size, 1)
    if size >= len(x) or len(x) * y.size > LARGE:
        return x @ y
    step = max(size, 1)
    return np.concatenate([x[start : start + step] @ y for start in range(0, len(x), step)])


def _spread(table: Matrices, other: Matrices, a: Rows, b: Rows, judge: Judge) -> Floats | float:
    """Standard deviation of strangers' cosines of these shapes: the sketch's noise, and the most that families of theirs have in common."""
    noise = sketch_noise("probe", all_numbers_behind(table, "probe")[a[0]])
    families = {table.places[row].family for row in a} | {other.places[row].family for row in b}
    return math.hypot(noise, max(judge.between_models(family, "probe") for family in families))


def _unequal_heights(
    query: Fingerprint, relative: Fingerprint, mine: Mapping[Hashable, Rows], their: Mapping[Hashable, Rows], judge: Judge
) -> Iterator[Group]:
    """Tall matrices of unequal numbers of rows, as tables of tokens that grew, by the rows that both sketches hold."""
    tall = [
        [row for shape, rows in groups.items() if shape not in others for row in rows if row in high]
        for high, groups, others in ((_tall(query.matrices), mine, their), (_tall(relative.matrices), their, mine))
    ]
    for a in tall[0]:
        same = [b for b in tall[1] if query.matrices.columns[a] == relative.matrices.columns[b]]
        if same:
            yield Group([a], same, np.array([[_shared_z(query, relative, a, b, judge) for b in same]]))


@once
def _tall(table: Matrices) -> frozenset[int]:
    shapes = zip(table.rows.tolist(), table.columns.tolist(), table.experts.tolist(), strict=True)
    return frozenset(row for row, (rows, columns, experts) in enumerate(shapes) if experts == 1 and sketch.is_tall(rows, columns))


def _shared_z(query: Fingerprint, relative: Fingerprint, a: int, b: int, judge: Judge) -> float:
    table, other = query.matrices, relative.matrices
    sides = (int(table.rows[a]), int(table.top[a])), (int(other.rows[b]), int(other.top[b]))
    shared = sketch.shared_numbers(*sides, int(table.columns[a]))
    x, y = table.sketches["probe"][0][a, shared].astype(float), other.sketches["probe"][0][b, shared].astype(float)
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    between = max(judge.between_models(family, "probe") for family in (table.places[a].family, other.places[b].family))
    return abs(float(x @ y)) / length / math.hypot(1 / math.sqrt(len(x)), between) if length > 0 else 0.0


def _assigned(z: Floats) -> tuple[Ints, Ints]:
    """The assignment with the largest sum, of the rows that have any cell worth it."""
    rows = np.flatnonzero(z.max(axis=1) >= LEVELS_OF_Z[0])
    best = z[rows].argmax(axis=1)
    if len(set(best.tolist())) == len(best):
        return rows, best  # each row may have its best
    chosen, columns = largest_sum(z[rows])
    return rows[chosen], columns


def best_p(values: Sequence[Floats], groups: Sequence[Group]) -> float:
    """The least p over LEVELS_OF_Z of all assigned cells from there together, corrected for what they were chosen from."""
    logs = []
    for level in LEVELS_OF_Z:
        strong = [z[z >= level] for z in values]
        count = sum(len(z) for z in strong)
        if count:
            ways = sum(log_ways(len(z), *group.z.shape) for z, group in zip(strong, groups, strict=True))
            logs.append(ways + log_tail(sum(float(z.sum()) for z in strong) / math.sqrt(count)))
    return min(1.0, math.exp(min(0.0, min(logs, default=0.0) + math.log(len(LEVELS_OF_Z)))))


def log_ways(pairs: int, rows: int, columns: int) -> float:
    """Logarithm of the number of ways to choose so many pairs of a row and a column, with either sign."""
    pairs = min(pairs, rows, columns)
    choose = math.lgamma(rows + 1) - math.lgamma(pairs + 1) - math.lgamma(rows - pairs + 1)
    return choose + math.lgamma(columns + 1) - math.lgamma(columns - pairs + 1) + pairs * math.log(2)


def log_tail(z: float) -> float:
    """log P(normal > z), for z of any size."""
    if z < 30:
        return math.log(max(math.erfc(z / math.sqrt(2)) / 2, 1e-300))
    return -(z**2) / 2 - math.log(z * math.sqrt(2 * math.pi))


def _sure(group: Group) -> list[Pair]:
    rows, columns = _assigned(group.z)
    tests = sum(group.z.shape) - 1
    kept = [(a, b) for a, b in zip(rows.tolist(), columns.tolist(), strict=True) if two_sided_p(float(group.z[a, b]), tests) <= PAIR_P]
    return [Pair(group.ours[a], group.theirs[b], SKETCH) for a, b in kept]


def _without(group: Group, ours: set[int], theirs: set[int]) -> Group | None:
    a = [at for at, row in enumerate(group.ours) if row not in ours]
    b = [at for at, row in enumerate(group.theirs) if row not in theirs]
    if not a or not b:
        return None
    return Group([group.ours[at] for at in a], [group.theirs[at] for at in b], group.z[np.ix_(a, b)])
