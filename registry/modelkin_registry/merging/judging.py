"""Merge or not: what tells a mix of models from a model that was only trained near them.

Models near a merge are not rare: fine-tunes of one base trained on like data share up to 0.9 of their changes, an ancestor is nearly the
mean of its children, and a model trained on the data of two siblings, at once or in turn, is explained by both of them to 70-80 %
(benchmarks/truth/merges.py). So a coefficient that is significantly not zero says nothing; one of four things has to hold.

exact     what is left is no more than storing the numbers leaves, and without any one of the parents it is ten times as much
between   weights are positive and the model lies between its parents: seen from it they are in opposite directions. Seen from an
          ancestor, or from a checkpoint on the way, they are at right angles or nearer.
even      seen from the base, every tensor keeps the same share of each parent's change, as dropping numbers at random does. Training
          takes over more in some tensors than in others.
elected   seen from the base, every tensor keeps the share of each parent's change, and the rest, that keeping the largest changes and
          electing their signs would (TIES, `election.py`)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_registry.merging.election import election_misfit
from modelkin_registry.merging.fit import affine, fit, left_by_place
from modelkin_registry.merging.search import left_of
from modelkin_registry.merging.table import STORED, Table

Floats = npt.NDArray[np.float64]
EXACT_RATIO = 3.0  # left / what one rounding leaves, in lengths: 1.0 for merges computed in float32, up to 2 in bfloat16 steps
EXACT_GAIN = 10.0  # squares left without any one parent / with it. Models trained near others reach 2.3
BETWEEN = 0.5  # squares left / what parents at right angles would leave. Ancestors 1.09, checkpoints on the way 0.74 to 1.0; merges near 0
BETWEEN_GAIN = 2.0  # squares left without any one parent / with it; a sibling explains a quarter
EVEN = 2.0  # spread of the shares over tensors / what sampling alone gives. Dropped at random 1.3; trained 2.5 to 6.8
PARTIAL = 0.25  # least partial correlation with each parent's change for evenness to be measurable on 128 numbers a tensor
ELECTED = 5.0  # misfit of the forecast of such merges: 2.0 to 4.3; trained models 6.1 and more (both texts at once), most 7 and more
FEWEST_PLACES = 12  # tensors from which evenness is told
SMALLEST = 0.03  # a smaller weight, mean over places, is not told from none
LARGEST_WEIGHT = 1.1  # beyond it, one of the parents is as likely to be a mix of the query with the others; a base that is told decides
NEGATIVE_SD = 4.0  # standard errors below zero from which a weight is negative: task arithmetic
MIXED = 0.2  # share of tensors that are mixed from which parts were not just put together; weights that change with depth reach 0 and 1
RIGHT_ANGLE = 0.4  # cosine of fine-tunes' changes seen from their base: 0.1 to 0.3; from a sibling or a stranger 0.5
LIKE_SIZES = 0.2  # ratio of the parents' changes from which their common base is told from a model near one of them


class Verdict(Struct, frozen=True):
    """Whether a set of parents makes a merge, and on what ground ("exact", "between", "even", "elected" or "")."""

    ground: str
    base: int | None
    rounding: float


def judge(table: Table, chosen: Sequence[int], base: int | None = None) -> Verdict:
    """Hold one set of parents against what training explains. `base` is the model known as the parents' base."""
    at = np.asarray(chosen, np.int64)
    away = table.away[:, at][:, :, at]
    found = fit(away)
    floor = rounding(table, found.weights)
    origin = base if base is not None else common_base(table, chosen)
    without = gains(away)
    negative = [int(at[i]) for i in np.flatnonzero(found.weights < -np.maximum(NEGATIVE_SD * found.errors, SMALLEST))]
    sane = base is not None or (negative in ([], [origin]) and found.weights.max() <= LARGEST_WEIGHT)
    if sane and without.min() >= EXACT_GAIN and _flexible(away) <= EXACT_RATIO * floor and _mixed(away):
        return Verdict("exact", origin, floor)
    if not negative and without.min() >= BETWEEN_GAIN and _between(away) <= BETWEEN:
        return Verdict("between", origin, floor)
    if sane and origin is not None and _even(table, chosen, origin):
        return Verdict("even", origin, floor)
    if sane and origin is not None and _elected(table, chosen, origin):
        return Verdict("elected", origin, floor)
    return Verdict("", origin, floor)


def rounding(table: Table, weights: Floats) -> float:
    """Relative length that storing the model's numbers, and all the sketches, leaves."""
    stored = STORED**2 * (1 + float(weights @ weights))
    return float(np.sqrt(table.rounding.mean() + stored))


def common_base(table: Table, chosen: Sequence[int]) -> int | None:
    """The model, one of the chosen or another, that the others may all have been trained from."""
    if len(chosen) < 2:
        return None
    inside = base_among(table, chosen)
    return inside if inside is not None else _base_beside(table, chosen)


def _base_beside(table: Table, chosen: Sequence[int]) -> int | None:
    """A model that is no parent, from which their changes are of like sizes and nearly at right angles."""
    others = [other for other in range(len(table.names)) if other not in chosen]
    worst = {other: float(abs(cosines(table, chosen, other)).max()) for other in others if _like_sizes(table, chosen, other)}
    least = min(worst, key=lambda other: (worst[other], other), default=None)
    return least if least is not None and worst[least] < RIGHT_ANGLE else None


def _like_sizes(table: Table, members: Sequence[int], origin: int) -> bool:
    """Whether changes are of like sizes. Seen from a model very near to one of them, right angles say nothing."""
    sizes = np.diag(changes(table, members, origin).sum(axis=0))
    return bool(sizes.min() >= LIKE_SIZES**2 * sizes.max())


def base_among(table: Table, chosen: Sequence[int]) -> int | None:
    """The member from which the others' changes are nearest to right angles, if there are at least three and one is."""
    if len(chosen) < 3:
        return None
    worst = {member: abs(cosines(table, [c for c in chosen if c != member], member)).max() for member in chosen}
    member = min(worst, key=lambda one: (worst[one], one))
    return member if worst[member] < RIGHT_ANGLE else None


def cosines(table: Table, members: Sequence[int], origin: int) -> Floats:
    """(pairs,) cosines of the members' changes from an origin, over all places."""
    gram = changes(table, members, origin).sum(axis=0)
    size = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))
    return np.asarray((gram / np.outer(size, size))[np.triu_indices(len(members), 1)])


def changes(table: Table, members: Sequence[int], origin: int) -> Floats:
    """(places, members, members): inner products of the members' differences from an origin. -1 stands for the query."""
    at, p = np.asarray(members, np.int64), table.products
    across = p[:, at, origin]
    return np.asarray(p[:, at][:, :, at] - across[:, :, None] - across[:, None, :] + p[:, origin, origin][:, None, None])


def _flexible(away: Floats) -> float:
    """Relative length left with weights of its own in every place."""
    return float(np.sqrt(left_by_place(away).mean()))


def _mixed(away: Floats) -> bool:
    """Whether tensors are mixed. Where each is one parent's, unchanged, parts were put together, which is told elsewhere."""
    taking_part = np.sum(np.abs(affine(away)) >= SMALLEST, axis=1)
    return float(np.mean(taking_part > 1)) >= MIXED


def gains(away: Floats) -> Floats:
    """For each parent: squares left without it / with it."""
    everyone = range(away.shape[1])
    left = max(left_of(away, list(everyone)), float(np.finfo(np.float64).tiny))
    return np.array([left_of(away, [other for other in everyone if other != one]) / left for one in everyone])


def _between(away: Floats) -> float:
    """Squares left over what they would be if the parents were independent departures from the query: sum w_i^2 |c_i|^2."""
    found = fit(away, positive=True)
    apart = float(np.einsum("i,pii->", found.weights**2, away))
    return float(found.left.sum()) / max(apart, float(np.finfo(np.float64).tiny))


def _even(table: Table, chosen: Sequence[int], origin: int) -> bool:
    products = _measurable(table, chosen, origin)
    return products is not None and unevenness(products) <= EVEN


def _elected(table: Table, chosen: Sequence[int], origin: int) -> bool:
    products = _measurable(table, chosen, origin)
    return products is not None and election_misfit(products) <= ELECTED


def _measurable(table: Table, chosen: Sequence[int], origin: int) -> Floats | None:
    """Inner products of the parents' changes and the query's own, where all of the parents' show in enough tensors."""
    members = [c for c in chosen if c != origin]
    if len(members) < 2 or len(table.places) < FEWEST_PLACES:
        return None
    products = changes(table, [*members, -1], origin)
    return products if _partials(products.sum(axis=0)).min() >= PARTIAL else None


def _partials(total: Floats) -> Floats:
    """Partial correlations of the last with each of the others, from inner products."""
    size = np.sqrt(np.diag(total))
    inverse = np.linalg.pinv(total / np.outer(size, size))
    scale = np.sqrt(np.maximum(np.diag(inverse), np.finfo(np.float64).tiny))
    return np.asarray(-inverse[-1, :-1] / (scale[-1] * scale[:-1]))


@np.errstate(divide="ignore", invalid="ignore")  # where the model changed nothing in some place: NaN is no verdict
def unevenness(products: Floats) -> float:
    """Spread over places of the last one's coefficients on the others / what sampling gives (Cochran's Q over its degrees of freedom)."""
    own, across, square = products[:, :-1, :-1], products[:, :-1, -1], products[:, -1, -1]
    places, members = across.shape
    inverse = np.linalg.pinv(own)
    each = np.einsum("pij,pj->pi", inverse, across)
    left = np.maximum(square - np.einsum("pi,pi->p", each, across), np.finfo(np.float64).eps * square)
    precision = own * ((spec.PROBE_NUMBERS - members) / left)[:, None, None]
    mean = np.linalg.solve(precision.sum(axis=0), np.einsum("pij,pj->i", precision, each))
    apart = each - mean
    spread = float(np.einsum("pi,pij,pj->", apart, precision, apart))
    return spread / float(members * (places - 1))
