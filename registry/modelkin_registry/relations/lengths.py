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

from modelkin_indexer.results.fingerprint import SIDES, Fingerprint, Matrices

Bools = npt.NDArray[np.bool_]
Lengths = dict[tuple[str, str, str], dict[int, "Length"]]  # role -> layer -> length
# Of n independent numbers the log of the length has a standard error of 1/sqrt(2n) at least. This share of the difference's is the
# tolerance: storing turned numbers in bfloat16 moves a length by 0.001/sqrt(n).
NEAR = 0.02
CHANCE = 0.016  # share of matrices so near by chance between two draws of one spread: P(|normal| < NEAR)
LIKELY = 1e-6  # probability, over all models that were searched, from which equal lengths are no chance
FEWEST_NUMBERS = 1024  # of a matrix; the lengths of small ones take few values


class Length(NamedTuple):
    """Logarithms of a matrix's length: as it is, a row, a column and a number; the tolerance of a comparison.

    Untouched: norm gains cannot be folded into it, since it writes to the residual stream or is a token table.
    """

    scaled: list[float]
    near: float
    untouched: bool


def same_lengths(query: Fingerprint, relative: Fingerprint, searched: int) -> bool:
    """Whether more lengths are equal than chance gives among so many models; never at level probe, which knows no lengths."""
    if "probe" in (query.about.level, relative.about.level):
        return False
    ours, theirs = _lengths(query.matrices), _lengths(relative.matrices)
    sides = ((ours, theirs), (_untouched(ours), _untouched(theirs)))
    return len(sides) * min(_probability(*side) for side in sides) * searched <= LIKELY


def _lengths(table: Matrices) -> Lengths:
    found: Lengths = defaultdict(dict)
    numbers = table.parameters.astype(np.float64)
    energy = (table.sd.astype(np.float64) ** 2 + table.mean.astype(np.float64) ** 2) * numbers
    for row in np.flatnonzero((energy > 0) & (numbers >= FEWEST_NUMBERS)).tolist():
        component, layer, family, role = table.places[row]
        untouched = SIDES[int(table.side[row])] == "out" or (family, role) == ("embedding", "token")
        scaled = [0.5 * math.log(energy[row] / by) for by in (1, table.rows[row], table.columns[row], numbers[row])]
        found[component, family, role][layer] = Length(scaled, NEAR / math.sqrt(numbers[row]), untouched)
    return found


def _untouched(lengths: Lengths) -> Lengths:
    return {role: {at: one for at, one in layers.items() if one.untouched} for role, layers in lengths.items()}


def _probability(ours: Lengths, theirs: Lengths) -> float:
    """Of as many equal lengths at the same places as there are, if each is as likely as for different layers of its role.

    Such a share of each role, and the binomial law for their mean: with shares of their own, so many are less likely still
    (Hoeffding 1956, On the distribution of the number of successes in independent trials).
    """
    equal = held = pairs = told = 0
    expected = 0.0
    for role in ours.keys() & theirs.keys():
        agree, same = _agreeing(ours[role], theirs[role])
        both, others = int(same.sum()), int(same.size - same.sum())
        held += both
        equal += int(agree[0][same].sum())
        if both and others:
            # Rows, columns or numbers of one size give layers of different shapes different lengths, and two models the same ones.
            expected += both * float(agree[:, ~same].mean(axis=1).max())
            told, pairs = told + both, pairs + others
    if not (equal and told):
        return 1.0
    elsewhere = (expected / told * pairs + 1) / (pairs + 1)  # at least one is counted
    return binomial_tail(equal, held, max(CHANCE, elsewhere))


def _agreeing(ours: dict[int, Length], theirs: dict[int, Length]) -> tuple[Bools, Bools]:
    """(4, ours, theirs): which layers' lengths agree as they are, a row, a column and a number; (ours, theirs): which are one layer."""
    a, b = (np.array([one.scaled for one in side.values()]).reshape(-1, 4).T for side in (ours, theirs))
    near, limit = (np.array([one.near for one in side.values()]) for side in (ours, theirs))
    agree = np.abs(a[:, :, None] - b[:, None]) <= np.maximum(near[:, None], limit)
    same = np.array(list(ours), np.int64)[:, None] == np.array(list(theirs), np.int64)
    return agree, same


def binomial_tail(equal: int, held: int, chance: float) -> float:
    """The probability of so many among so many, each by itself."""
    if chance >= 1:
        return 1.0
    odds = math.log(chance), math.log1p(-chance)
    orders = (math.lgamma(held + 1) - math.lgamma(k + 1) - math.lgamma(held - k + 1) for k in range(equal, held + 1))
    return min(1.0, sum(math.exp(order + k * odds[0] + (held - k) * odds[1]) for k, order in enumerate(orders, equal)))
