"""Whether what two components have in common was learned, or may be no more than one random start.

Public seeds are everywhere: two runs from one start W are W + a and W + b, and correlate as strongly as training left them near W. Descent
needs more: of what training wrote into one side, most must be in the other. Each side's own numbers bound from below how much that is
(evidence/start.py); gains of norms start at one value, so all they hold was learned; and an adapter's change starts at zero. What cannot
be told ends as a common start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_registry.answers.evidence import FamilyEvidence
from modelkin_registry.counterparts.copying.alike import Agreeing, told_apart, told_once
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.nulls import median
from modelkin_registry.evidence.places import ROTARY_NORMS, SHOWN_AS, ComponentPair, PlaceCosine, is_informative
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.start import CHANCE_SD, are_row_norms, learned_shares, sampled_shares
from modelkin_registry.relations.deltas import normalised_deltas, same_bytes, stacks_kept
from modelkin_registry.relations.drawn_gains import look_drawn

Floats = npt.NDArray[np.floating[Any]]
# Shares of what was learned that both sides hold. Figures from benchmarks/results/common_start.json: pairs of runs from one start.
COMMON = 0.9  # gains alone, or matrices in which little was learned: runs reach 0.86 and 0.72 there
COMMON_IN_ONE = 0.95  # one matrix in which little was learned: runs reach 0.91
# Matrices in which much was learned: runs reach 0.36 there, and 0.83 with another seed, size and rate (a GRU, twenty large steps from a
# small start on parts of one task: both have learned the same first things).
COMMON_IN_MUCH = 0.85
COMMON_IN_BOTH = 0.8  # matrices and gains each: no pair of runs has both
# What such a share rests on, sqrt(f g) summed over the matrices. Of less, runs on parts of one task reach a share of 0.97.
LITTLE, MUCH = 0.15, 0.3
# A long further training: r of gains (lineagebench 0.7) that have learned much on both sides (their spread: 0.07 and 0.13 there, 0.03 some
# hundred steps from a start), with slopes on the parent near 1, where independent changes leave them. No pair of runs has all four.
KEPT_GAINS, LEARNED_GAINS, GAINS_SLOPE, MATRICES_SLOPE = 0.6, 0.045, 0.85, 0.85
FEWEST_GAINS = 256  # gains in all that such an r must rest on
# In place of gains that moved far, matrices that did: of the energy of one side's matrices at least LEARNED_ENERGY on average was learned,
# and of that the other holds at least TAKEN_OVER, by its slopes on them and with LEARNED_SD of what these vary by from matrix to matrix.
LEARNED_ENERGY, TAKEN_OVER = 0.05, 0.75
# Adapters: mean r of the changes. From one seed on one base, pairs trained on other tasks reach 0.92, on parts of one task 0.95; trained on
# from another 0.7 to 1. Below, a change that is the other's plus something independent in each of many matrices: slopes of 1 throughout,
# which pairs on parts of one task come near by chance where there are 18.
CHANGES, INDEPENDENT_CHANGES, FEWEST_CHANGES = 0.96, 0.7, 24
EQUAL_SHARE = 0.5  # of a component's informative weights, in two matrices or more: what moved from a common start is nowhere equal
LONE_SHARE = 0.8  # of both sides' informative weights that a lone matrix holds if it may decide: a model of one matrix, with another head
TOKEN_TABLES = (("embedding", "token"), ("head", "head"))  # of one vocabulary each: nobody computes them
FEWEST_POSITIVE = 32  # numbers that have one sign by chance in one of 2^31 vectors
# Gram over probe: what agrees number by number in part brings about an agreement of Gram matrices of 1.2 to 1.3 times that (a common
# start 0.39 over 0.32, further training 0.55 over 0.48, noise 0.87 over 0.69); half of the heads in their places of 2.
BROUGHT_ABOUT = 1.5
FEWEST = 2  # matrices, or vectors of gains: one place decides nothing
LEARNED_SD = 2.0  # standard errors of r granted to chance


class _Matrices(Struct, frozen=True):
    """Matrices in the same coordinates on both sides: rows of the fingerprints' tables, |r|, and the sketches' noise."""

    ours: list[int]
    theirs: list[int]
    r: Floats
    noise: Floats


def shows_descent(pair: ComponentPair) -> bool:
    """Whether something learned is in both, beyond what one start can give."""
    kept = kept_places(pair)
    if pair.changes_only:
        return _changes_agree(pair, kept)
    if _mostly_equal(pair, kept):
        return True
    if not kept and not _by_experts(pair):
        return _elsewhere(pair, "")  # in several layers: a common start would show in the same coordinates
    common = learned_in_common(pair, kept)
    like_a_start = common.amount < MUCH and not common.matrices and _gains_look_drawn(pair)
    r = 0.0 if like_a_start else mean_of_gains(pair)
    learned = common.is_descent and (common.matrices >= FEWEST or _stands_alone(pair, kept))
    if r >= COMMON or learned or (common.matrices >= FEWEST and min(common.share, r) >= COMMON_IN_BOTH):
        return True
    return (r >= KEPT_GAINS and _continues(pair, kept, _gains(pair))) or _elsewhere(pair)


def _stands_alone(pair: ComponentPair, kept: Sequence[PlaceCosine]) -> bool:
    """Whether a lone matrix may decide: a token table, or nearly all that both sides hold. Any other may be anybody's table."""
    sizes = [
        (int(side.matrices.parameters[at].sum()), int(side.matrices.parameters[told_once(side.matrices, _informative(side))].sum()))
        for side, at in ((pair.query, [p.query_row for p in kept][:1]), (pair.relative, [p.relative_row for p in kept][:1]))
    ]
    return any((p.family, p.role) in TOKEN_TABLES for p in kept) or all(mine >= LONE_SHARE * every for mine, every in sizes)


def _informative(side: Side) -> list[int]:
    """Rows of a component's informative matrices."""
    return [row for row, p in enumerate(side.matrices.places) if p.component == side.component and is_informative(p)]


def _mostly_equal(pair: ComponentPair, kept: Sequence[PlaceCosine]) -> bool:
    """Whether half of the component's weights or more are the relative's to the last bit: no training from one start leaves that.

    Frozen draws of a public seed do (bases of VeRA and RandLoRA, reservoirs), so some of them must show that they were learned.
    """
    table = pair.query.matrices
    same = same_bytes([p.query_row for p in kept], [p.relative_row for p in kept], pair)
    equal = told_once(table, [p.query_row for p, is_same in zip(kept, same.tolist(), strict=True) if is_same])
    if not (learned_shares(pair.query, equal) > 0).any():
        return False
    size = int(table.parameters[told_once(table, _informative(pair.query))].sum())
    return len(equal) >= FEWEST and int(table.parameters[equal].sum()) >= EQUAL_SHARE * size


def kept_places(pair: ComponentPair) -> list[PlaceCosine]:
    """Places that show evidence in the same coordinates."""
    inherited = {f.family for f in pair.families if f.informative and f.inherited and f.channel == "probe"}
    return [p for p in pair.places if p.channel == "probe" and SHOWN_AS.get(p.family, p.family) in inherited]


class _Common(Struct, frozen=True):
    """The least `share` of what was learned that both sides hold, how much was learned (`amount`), and in how many `matrices` it shows."""

    share: float
    amount: float
    matrices: int

    @property
    def is_descent(self) -> bool:
        """Whether no two runs from one start come near."""
        if self.amount >= MUCH:
            return self.share >= COMMON_IN_MUCH
        return self.amount >= LITTLE and self.share >= (COMMON if self.matrices >= FEWEST else COMMON_IN_ONE)


def learned_in_common(pair: ComponentPair, kept: Sequence[PlaceCosine]) -> _Common:
    """What both sides learned in common, over the matrices in which learning shows.

    With learned shares f and g of the energy, r = sqrt((1 - f)(1 - g)) + share * sqrt(f g) for a start in common. A lower bound in place
    of f and g makes the share smaller.
    """
    found = _matrices(pair, kept)
    f, g = _learned(pair, pair.query, found.ours, found), _learned(pair, pair.relative, found.theirs, found)
    seen = (f > 0) & (g > 0)
    if not seen.any():
        return _Common(0.0, 0.0, 0)
    f, g, r = f[seen], g[seen], found.r[seen]
    errors, amount, beyond = (1 - r**2) * found.noise[seen], float(np.sum(np.sqrt(f * g))), r - np.sqrt((1 - f) * (1 - g))
    share = float(np.sum(beyond) - LEARNED_SD * math.sqrt(float(np.sum(errors**2)))) / amount
    return _Common(share, amount, int(np.count_nonzero(beyond > CHANCE_SD * errors)))


def _matrices(pair: ComponentPair, kept: Sequence[PlaceCosine]) -> _Matrices:
    """What is kept; stacked experts of which some were found in any order with the cosine of those."""
    chosen = [p for p in kept if p.family != "expert" or stacks_kept(pair)]
    if _by_experts(pair) and not any(p.family == "expert" for p in chosen):
        assert pair.experts is not None
        chosen += [p._replace(cosine=pair.experts.cosine) for p in pair.places if p.channel == "probe" and p.family == "expert"]
    once = set(told_once(pair.query.matrices, [p.query_row for p in chosen]))
    chosen = [p for p in chosen if p.query_row in once]
    found = [Agreeing(p.query_row, p.relative_row, p.cosine, p.null.sd) for p in chosen]
    chosen = [chosen[at] for at in told_apart(pair.query.matrices, pair.relative.matrices, found)]
    r = np.minimum(np.abs([p.cosine for p in chosen]), 1.0)
    return _Matrices([p.query_row for p in chosen], [p.relative_row for p in chosen], r, np.array([p.null.sd for p in chosen]))


def _learned(pair: ComponentPair, side: Side, rows: Sequence[int], found: _Matrices) -> Floats:
    """Least shares that were learned of what r is of: all that was read where its bytes are equal, else what the sketches hold of it."""
    return np.where(same_bytes(found.ours, found.theirs, pair), learned_shares(side, rows), sampled_shares(side, rows))


def _by_experts(pair: ComponentPair) -> bool:
    return pair.experts is not None and pair.experts.share > 0


def mean_of_gains(pair: ComponentPair) -> float:
    """Mean r of vectors that start at one value, so that all they hold was learned; 0 with fewer than FEWEST."""
    found = [vector.cosine for vector in _gains(pair)]
    return float(np.mean(found)) if len(found) >= FEWEST else 0.0


def _gains_look_drawn(pair: ComponentPair) -> bool:
    """Whether gains of a side may be drawn: where no matrix shows anything learned in common either, they started at no one value."""
    found = _gains(pair)
    sides = (pair.query.vectors, [v.query_row for v in found]), (pair.relative.vectors, [v.relative_row for v in found])
    return any(look_drawn(vectors, rows) for vectors, rows in sides)


def _gains(pair: ComponentPair) -> list[PlaceCosine]:
    """Vectors that start at one value: gains of norms, and of norms whose names no table knows, told by being positive throughout."""
    once = set(told_once(pair.query.vectors, [v.query_row for v in pair.vectors]))
    return [
        v
        for v in pair.vectors
        if v.query_row in once
        and (
            (v.family == "norm" and v.role not in ROTARY_NORMS)
            or (v.family == "bias" and _is_gain(pair.query, v.query_row) and _is_gain(pair.relative, v.relative_row))
        )
    ]


def _is_gain(side: Side, row: int) -> bool:
    """Whether a vector without a known name starts at one value: more positive numbers than by chance, and no norms of a drawn matrix."""
    vectors = side.vectors
    positive = vectors.quantiles[row][0] > 0 and int(vectors.length[row]) >= FEWEST_POSITIVE
    return bool(positive) and not are_row_norms(side, row)


def _continues(pair: ComponentPair, kept: Sequence[PlaceCosine], gains: Sequence[PlaceCosine]) -> bool:
    """Whether one side is the other plus independent changes, in gains and in matrices alike: slopes near 1 on the same side.

    And whether that says anything: where little was learned, runs of one start have such slopes as well.
    """
    if not kept or int(pair.query.vectors.length[[v.query_row for v in gains]].sum()) < FEWEST_GAINS:
        return False
    far = _far_learned(pair, gains)
    _, slope, reverse = normalised_deltas(kept, pair)
    ours = pair.query.vectors.scale[[v.query_row for v in gains]].astype(float)
    theirs = pair.relative.vectors.scale[[v.relative_row for v in gains]].astype(float)
    r = np.array([v.cosine for v in gains])
    sides = (r * ours / theirs, slope, pair.relative), (r * theirs / ours, reverse, pair.query)
    return any(
        median(of_gains) >= GAINS_SLOPE and median(of_matrices) >= MATRICES_SLOPE and (far or taken_over(pair, kept, parent).is_descent)
        for of_gains, of_matrices, parent in sides
    )


def _far_learned(pair: ComponentPair, gains: Sequence[PlaceCosine]) -> bool:
    """Whether the gains of both sides have moved far from their start."""
    sides = ((pair.query.vectors, [v.query_row for v in gains]), (pair.relative.vectors, [v.relative_row for v in gains]))
    return all(float(np.mean(table.sd[rows] / np.maximum(np.abs(table.mean[rows]), 1.0))) >= LEARNED_GAINS for table, rows in sides)


class _TakenOver(Struct, frozen=True):
    """Of what one side's matrices learned, at least a share `energy` of theirs on average, the other side holds `share` within `error`."""

    share: float
    error: float
    energy: float

    @property
    def least(self) -> float:
        """The share, with room for its error."""
        return self.share - LEARNED_SD * self.error

    @property
    def is_descent(self) -> bool:
        """Whether no run from the same start comes near."""
        return self.energy >= LEARNED_ENERGY and self.least >= TAKEN_OVER


def taken_over(pair: ComponentPair, kept: Sequence[PlaceCosine], parent: Side) -> _TakenOver:
    """What the side that is not `parent` holds of what was learned there.

    With W + a on the parent's side and W + b on the other, the slope on the parent is 1 - f (1 - p): f the learned share of its energy and
    p that of a which is in b. A lower bound in place of f makes p smaller; a child has slope 1 whatever f is. Summed over matrices, with
    the error of a ratio of sums (Cochran 1977, Sampling techniques, 6.4).
    """
    found = _matrices(pair, kept)
    ours = pair.query.matrices.scale[found.ours].astype(float)
    theirs = pair.relative.matrices.scale[found.theirs].astype(float)
    rows, slope = (found.theirs, found.r * ours / theirs) if parent is pair.relative else (found.ours, found.r * theirs / ours)
    f = _learned(pair, parent, rows, found)
    seen = f > 0
    if np.count_nonzero(seen) < FEWEST:
        return _TakenOver(0.0, math.inf, 0.0)
    missing, learned, count = 1 - slope[seen], f[seen], int(np.count_nonzero(seen))
    ratio = float(missing.sum() / learned.sum())
    error = math.sqrt(float(np.sum((missing - ratio * learned) ** 2)) * count / (count - 1)) / float(learned.sum())
    return _TakenOver(1 - ratio, error, float(learned.sum()) / len(f))


def _elsewhere(pair: ComponentPair, but: str = "embedding") -> bool:
    """Whether further families agree in other coordinates only: not by matrices that are equal to the last bit, as a seed's may be.

    Layers that are copies of one draw (torch's TransformerEncoder) resemble each other, so that in the same coordinates none stands out.
    """
    found = [f for f in pair.families if f.informative and f.inherited and f.channel != "probe" and f.family != but]
    return any(not _equal_in_place(pair, f.family, f.channel) and not _as_much_in_place(f) for f in found)


def _as_much_in_place(family: FamilyEvidence) -> bool:
    """Whether what agrees in other coordinates is no more than the same coordinates bring about."""
    in_place = abs(family.channels.get("probe") or 0.0)
    return in_place >= CHANNEL_R["probe"] and abs(family.r or 0.0) <= BROUGHT_ABOUT * in_place


def _equal_in_place(pair: ComponentPair, family: str, channel: str) -> bool:
    rows = [(p.query_row, p.relative_row) for p in pair.places if p.channel == channel and SHOWN_AS.get(p.family, p.family) == family]
    return bool(rows) and bool(same_bytes([a for a, _ in rows], [b for _, b in rows], pair).all())


def _changes_agree(pair: ComponentPair, kept: Sequence[PlaceCosine]) -> bool:
    """Adapters: a change starts at zero, so all of it was learned; the factors that a seed gives are in no number of it."""
    r = np.array([p.cosine for p in kept])
    if len(kept) >= FEWEST and float(r.mean()) >= CHANGES:
        return True
    if len(kept) < FEWEST_CHANGES or float(r.mean()) < INDEPENDENT_CHANGES:
        return False
    _, slope, reverse = normalised_deltas(kept, pair)
    noise = np.sqrt(1 - r**2) / np.abs(r) * np.array([p.null.sd for p in kept])
    return any(_all_one(side, noise * np.abs(side)) for side in (slope, reverse))


def _all_one(slopes: Floats, noise: Floats) -> bool:
    """Whether slopes are 1 but for their noise, by chi-square within LEARNED_SD of what chance gives."""
    count = len(slopes)
    return float(np.sum(((slopes - 1) / noise) ** 2)) <= count + LEARNED_SD * float(np.sqrt(2 * count))
