"""Whether two models' matrices have the same lengths (Frobenius norms), place by place, where nothing that was compared agrees.

Turning the residual stream, re-ordering channels, neurons, heads or tokens and padding with zeros leave a matrix's length as it is. Once
several of these are done together, no channel sees through them, and that two models have nothing in common there says little. Equal
lengths are no evidence of kinship here: they tell that such a copy was not examined.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from modelkin_indexer.results.fingerprint import SIDES, Fingerprint, Matrices

Floats = npt.NDArray[np.float64]
Lengths = dict[tuple[str, str, str], dict[int, tuple[float, float, bool]]]  # role -> layer -> log of the length, tolerance, is untouched
# Of n independent numbers the log of the length has a standard error of 1/sqrt(2n) at least. This share of the difference's is the
# tolerance: storing turned numbers in bfloat16 moves a length by 0.001/sqrt(n).
NEAR = 0.02
CHANCE = 0.016  # share of matrices so near by chance between two draws of one spread: P(|normal| < NEAR)
LIKELY = 1e-6  # probability, over all models that were searched, from which equal lengths are no chance
FEWEST_NUMBERS = 1024  # of a matrix; the lengths of small ones take few values


def same_lengths(query: Fingerprint, relative: Fingerprint, searched: int) -> bool:
    """Whether more lengths are equal than chance gives among so many models; never at level probe, which knows no lengths."""
    if "probe" in (query.about.level, relative.about.level):
        return False
    ours, theirs = _lengths(query.matrices), _lengths(relative.matrices)
    chance = max(CHANCE, _equal_elsewhere(ours, theirs))
    found = [_equal(ours, theirs, only_untouched=only) for only in (True, False)]
    return len(found) * min(_tail(equal, held, chance) for equal, held in found) * searched <= LIKELY


def _lengths(table: Matrices) -> Lengths:
    """Of every matrix. Untouched: norm gains cannot be folded into it, since it writes to the residual stream or is a token table."""
    found: Lengths = defaultdict(dict)
    numbers = table.parameters.astype(np.float64)
    energy = (table.sd.astype(np.float64) ** 2 + table.mean.astype(np.float64) ** 2) * numbers
    for row in np.flatnonzero((energy > 0) & (numbers >= FEWEST_NUMBERS)).tolist():
        component, layer, family, role = table.places[row]
        untouched = SIDES[int(table.side[row])] == "out" or (family, role) == ("embedding", "token")
        found[component, family, role][layer] = (0.5 * math.log(energy[row]), NEAR / math.sqrt(numbers[row]), untouched)
    return found


def _equal(ours: Lengths, theirs: Lengths, *, only_untouched: bool) -> tuple[int, int]:
    """How many matrices of one place have the same length, and how many there are."""
    equal = held = 0
    for role, layers in ours.items():
        for layer, (length, near, untouched) in layers.items():
            if (other := theirs.get(role, {}).get(layer)) is not None and (untouched or not only_untouched):
                held += 1
                equal += abs(length - other[0]) <= max(near, other[1])
    return equal, held


def _equal_elsewhere(ours: Lengths, theirs: Lengths) -> float:
    """The share of a role's matrices of other layers that have the same length: what the way they were made gives, at least one counted."""
    equal = held = 1
    for role in ours.keys() & theirs.keys():
        for layer, (length, near, _) in ours[role].items():
            others = [other for at, other in theirs[role].items() if at != layer]
            held += len(others)
            equal += sum(abs(length - other) <= max(near, limit) for other, limit, _ in others)
    return equal / held


def _tail(equal: int, held: int, chance: float) -> float:
    """The probability of so many among so many, each by itself."""
    return sum(math.comb(held, k) * chance**k * (1 - chance) ** (held - k) for k in range(equal, held + 1)) if equal else 1.0
