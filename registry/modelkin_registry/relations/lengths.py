"""Whether two models' matrices have the same lengths (Frobenius norms), place by place, where nothing that was compared agrees.

Turning the residual stream, re-ordering channels, neurons, heads or tokens and padding with zeros leave a matrix's length as it is. Once
several of these are done together, no channel sees through them, and that two models have nothing in common there says little. Equal
lengths are no evidence of kinship here: they tell that such a copy was not examined.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import SIDES, Fingerprint, Matrices

Bools = npt.NDArray[np.bool_]
Role = tuple[str, str, str]
# Of n independent numbers the log of the length has a standard error of 1/sqrt(2n) at least. This share of the difference's is the
# tolerance: storing turned numbers in bfloat16 moves a length by 0.001/sqrt(n).
NEAR = 0.02
CHANCE = 0.016  # share of matrices so near by chance between two draws of one spread: P(|normal| < NEAR)
LIKELY = 1e-6  # probability, over all models that were searched, from which equal lengths are no chance
FEWEST_NUMBERS = 1024  # of a matrix; the lengths of small ones take few values


class Lengths(NamedTuple):
    """A role's matrices (n): logarithms of their lengths as they are, a row, a column and a number; the tolerance of a comparison.

    Untouched: norm gains cannot be folded into it, since it writes to the residual stream or is a token table.
    """

    layers: npt.NDArray[np.int64]
    scaled: npt.NDArray[np.float64]  # (4, n)
    near: npt.NDArray[np.float64]
    untouched: Bools


def same_lengths(query: Fingerprint, relative: Fingerprint, searched: int) -> bool:
    """Whether more lengths are equal than chance gives among so many models; never at level probe, which knows no lengths."""
    if "probe" in (query.about.level, relative.about.level):
        return False
    if not _any_equal(query.matrices, relative.matrices):
        return False
    ours, theirs = _lengths(query.matrices), _lengths(relative.matrices)
    sides = [_probability(ours, theirs, untouched=untouched) for untouched in (False, True)]
    return len(sides) * min(sides) * searched <= LIKELY


def same_lengths_by_shape(named: Fingerprint, other: Fingerprint, searched: int) -> bool:
    """The same where names of the other tell nothing: whether more lengths are found among those of their shape than by chance."""
    if "probe" in (named.about.level, other.about.level):
        return False
    table, rows, there = named.matrices, _telling(named.matrices), _telling(other.matrices)
    ours, theirs = ((one.rows[at], one.columns[at]) for one, at in ((table, rows), (other.matrices, there)))
    near = np.abs(_logs(table)[rows][:, None] - _logs(other.matrices)[there][None, :]) <= NEAR / np.sqrt(table.parameters[rows])[:, None]
    untouched = np.array([_is_untouched(table, row) for row in rows.tolist()], np.bool_)
    found = []
    for stored in (theirs, theirs[::-1]):  # as they are, or all of them [in, out]
        alike = (ours[0][:, None] == stored[0][None, :]) & (ours[1][:, None] == stored[1][None, :])
        found += [_probability_by_shape((near & alike)[chosen], alike[chosen]) for chosen in (slice(None), untouched)]
    return len(found) * min(found) * searched <= LIKELY


def _probability_by_shape(equal: Bools, alike: Bools) -> float:
    """Of as many rows (n, m) with an equal one of theirs as there are, each of which has as many chances as there are of its shape."""
    held = alike.any(axis=1)
    found = min(int(equal.any(axis=1).sum()), int(equal.any(axis=0).sum()))
    if not found:
        return 1.0
    elsewhere = (int(equal.sum()) - found + 1) / (int(alike.sum()) - found + 1)
    chances = np.minimum(1.0, alike[held].sum(axis=1) * max(CHANCE, elsewhere))
    counts = np.ones(1)  # of each number of successes the probability
    for chance in chances.tolist():
        counts = np.convolve(counts, (1 - chance, chance))
    return min(1.0, float(counts[found:].sum()))


def _telling(table: Matrices) -> npt.NDArray[np.int64]:
    return np.flatnonzero((_energy(table) > 0) & (table.parameters >= FEWEST_NUMBERS))


def _energy(table: Matrices) -> npt.NDArray[np.float64]:
    return np.asarray((table.sd.astype(np.float64) ** 2 + table.mean.astype(np.float64) ** 2) * table.parameters, np.float64)


def _logs(table: Matrices) -> npt.NDArray[np.float64]:
    return np.asarray(0.5 * np.log(np.maximum(_energy(table), np.finfo(np.float64).tiny)))


def _is_untouched(table: Matrices, row: int) -> bool:
    return SIDES[int(table.side[row])] == "out" or table.places[row][2:] == ("embedding", "token")


def _any_equal(query: Matrices, relative: Matrices) -> bool:
    """Whether one matrix at least has the length of the relative's at its place: of strangers hardly one does."""
    (ours, own, near), (theirs, other, limit) = _as_they_are(query), _as_they_are(relative)
    if ours.keys() == theirs.keys():  # as in every model of one shape, and both are in the order of their places
        return bool((np.abs(own - other) <= np.maximum(near, limit)).any())
    shared = [place for place in ours if place in theirs]
    a, b = (np.array([at[place] for place in shared], np.int64) for at in (ours, theirs))
    return bool((np.abs(own[a] - other[b]) <= np.maximum(near[a], limit[b])).any())


def _as_they_are(table: Matrices) -> tuple[dict[Place, int], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where the matrices that tell something stand in the others: logarithms of their lengths, and the tolerances."""
    known: tuple[dict[Place, int], npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = table.worked_out.get(_as_they_are)
    if known is None:
        rows = _telling(table)
        at = {table.places[row]: number for number, row in enumerate(rows.tolist())}
        known = table.worked_out[_as_they_are] = at, 0.5 * np.log(_energy(table)[rows]), NEAR / np.sqrt(table.parameters[rows])
    return known


def _lengths(table: Matrices) -> dict[Role, Lengths]:
    known: dict[Role, Lengths] | None = table.worked_out.get(_lengths)
    if known is None:
        rows: dict[Role, list[int]] = defaultdict(list)
        for row in _telling(table).tolist():
            component, _, family, role = table.places[row]
            rows[component, family, role].append(row)
        numbers, energy = table.parameters.astype(np.float64), _energy(table)
        known = table.worked_out[_lengths] = {role: _of_role(table, at, numbers, energy) for role, at in rows.items()}
    return known


def _of_role(table: Matrices, rows: list[int], numbers: npt.NDArray[np.float64], energy: npt.NDArray[np.float64]) -> Lengths:
    by = np.stack([np.ones(len(rows)), table.rows[rows], table.columns[rows], numbers[rows]])
    return Lengths(
        layers=np.array([table.places[row].layer for row in rows], np.int64),
        scaled=0.5 * np.log(energy[rows] / by),
        near=NEAR / np.sqrt(numbers[rows]),
        untouched=np.array([_is_untouched(table, row) for row in rows], np.bool_),
    )


def _chosen(ours: Lengths, theirs: Lengths, untouched: bool) -> tuple[Lengths, Lengths]:
    if not untouched:
        return ours, theirs
    a, b = (
        Lengths(one.layers[at], one.scaled[:, at], one.near[at], one.untouched[at]) for one in (ours, theirs) for at in (one.untouched,)
    )
    return a, b


def _probability(ours: dict[Role, Lengths], theirs: dict[Role, Lengths], *, untouched: bool) -> float:
    """Of as many equal lengths at the same places as there are, if each is as likely as for different layers of its role.

    Such a share of each role, and the binomial law for their mean: with shares of their own, so many are less likely still
    (Hoeffding 1956, On the distribution of the number of successes in independent trials).
    """
    sides = [_chosen(ours[role], theirs[role], untouched) for role in ours if role in theirs]
    same = [a.layers[:, None] == b.layers for a, b in sides]
    equal = sum(int(_agreeing(a, b, 1)[0][at].sum()) for (a, b), at in zip(sides, same, strict=True))
    if not equal:
        return 1.0
    held = pairs = told = 0
    expected = 0.0
    for (a, b), at in zip(sides, same, strict=True):
        both, others = int(at.sum()), int(at.size - at.sum())
        held += both
        if both and others:
            # Rows, columns or numbers of one size give layers of different shapes different lengths, and two models the same ones.
            expected += both * float(_agreeing(a, b, 4)[:, ~at].mean(axis=1).max())
            told, pairs = told + both, pairs + others
    if not told:
        return 1.0
    elsewhere = (expected / told * pairs + 1) / (pairs + 1)  # at least one is counted
    return binomial_tail(equal, held, max(CHANCE, elsewhere))


def _agreeing(ours: Lengths, theirs: Lengths, scales: int) -> Bools:
    """(scales, ours, theirs): which layers' lengths agree as they are, and then a row, a column and a number."""
    limit = np.maximum(ours.near[:, None], theirs.near)
    return np.asarray(np.abs(ours.scaled[:scales, :, None] - theirs.scaled[:scales, None]) <= limit)


def binomial_tail(equal: int, held: int, chance: float) -> float:
    """The probability of so many among so many, each by itself."""
    if chance >= 1:
        return 1.0
    odds = math.log(chance), math.log1p(-chance)
    orders = (math.lgamma(held + 1) - math.lgamma(k + 1) - math.lgamma(held - k + 1) for k in range(equal, held + 1))
    return min(1.0, sum(math.exp(order + k * odds[0] + (held - k) * odds[1]) for k, order in enumerate(orders, equal)))
