"""Which families stand, of many pairs at once: evidence/standing.py and families.py where it is the probe channel that shows them.

What takes more than that channel's mean (other coordinates, a few certain places, rows that were put in, token tables alone) is not
decided here: such pairs are told as `apart`, to be judged one by one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.results.once import once
from modelkin_registry.batches.cosines import Sides
from modelkin_registry.batches.figures import Aligned, Figures, Measured, channels_of
from modelkin_registry.batches.layouts import layout_of
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import two_sided_p
from modelkin_registry.evidence.places import FAMILY_P, FURTHER_P, INFORMATIVE, NORM_P, NORM_R, SAME_NORM_R
from modelkin_registry.evidence.planted import FEWEST_MATRICES, FEWEST_OTHERS, OTHER_ROW, ROWS, SAME_ROW, WIDTH
from modelkin_registry.evidence.standing import FEWEST_PLACES, FEWEST_STRONG, KEPT_PROMISE, LEAST_PROMISE, chi_square_p

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Part = tuple[Aligned, tuple[int, ...]]


class Standing(Struct, frozen=True):
    """Of pairs (pairs,): which informative families are inherited, by family; the parameters of these and the same weighted by |cosine|.

    `judged`: whether any informative family was measured; `norms` whether norms are kept, with their r; `apart` as in the module's word.
    """

    inherited: dict[str, Bools]
    parameters: Floats
    weight: Floats
    judged: Bools
    norms: Bools
    norms_r: Floats
    apart: Bools


def stand(measured: Measured, sides: Sides, judge: Judge) -> Standing:
    """Judge pairs by what they measured."""
    families = sorted({family for family, channel in measured.families if channel != "vector"})
    informative = [family for family in families if family in INFORMATIVE]
    apart = measured.apart.copy()
    strict = {family: _evident(measured, family, FAMILY_P, judge) for family in informative}
    nothing = np.zeros(sides.count, np.bool_)
    any_strict = np.logical_or.reduce([np.logical_or.reduce(list(one.values())) for one in strict.values()] or [nothing])
    second = any_strict | _together(measured, informative, judge)
    evident = strict
    if second.any():
        further = {family: _evident(measured, family, FURTHER_P, judge) for family in informative}
        evident = {f: {c: np.where(second, further[f][c], strict[f][c]) for c in strict[f]} for f in informative}
    inherited: dict[str, Bools] = {}
    for family in informative:
        shown = evident[family]
        any_shown = np.logical_or.reduce(list(shown.values()))
        probe = shown.get("probe", nothing)
        apart |= any_shown & ~probe
        if (family, "probe") in measured.families:
            figures = measured.families[family, "probe"]
            apart |= ~any_shown & (figures.certain >= FEWEST_STRONG) & (figures.places >= FEWEST_PLACES)
            apart |= ~any_shown & (figures.close == 1) & (figures.places >= FEWEST_STRONG)
            apart |= _strong_alone(figures, probe & ~apart)
            alone = probe & (np.sum(list(shown.values()), axis=0) == 1)
            apart |= probe & _contradicted(measured, family, sides)
            apart |= _in_few_rows(figures.parts, sides, alone & ~apart)
        inherited[family] = probe
    count = np.sum(list(inherited.values()), axis=0) if inherited else np.zeros(sides.count, np.int64)
    apart |= (count == 1) & inherited.get("embedding", nothing)
    parameters, weight = _sums(measured, inherited, sides)
    judged = np.logical_or.reduce(
        [measured.families[f, c].places > 0 for f in informative for c in channels_of(measured.families, f)] or [nothing]
    )
    return Standing(inherited, parameters, weight, judged, *_norms(measured, count > 0, sides, judge), apart)


def _strong_alone(figures: Figures, asked: Bools) -> Bools:
    """Of the pairs asked for: whether a few places may be all that the two have in common in this family, as standing.py has it."""
    some = (figures.certain >= FEWEST_STRONG) | ((figures.certain == 1) & (figures.close > 0))
    found: Bools = asked & some & (figures.certain < figures.places)
    for at in np.flatnonzero(found).tolist():
        rest = int(figures.places[at] - figures.certain[at])
        together = two_sided_p(float(figures.rest_z[at]) / math.sqrt(rest))
        found[at] = min(together, chi_square_p(float(figures.rest_squares[at]), rest)) > FURTHER_P
    return found


def least_z(limit: float, tests: float) -> float:
    """The |z| from which a two-sided p-value, times `tests`, is no more than the limit."""
    return -NormalDist().inv_cdf(limit / tests / 2)


def _evident(measured: Measured, family: str, limit: float, judge: Judge) -> dict[str, Bools]:
    """By channel: whether a family is strong there with a p-value below the limit, corrected for channels and models searched."""
    found = {channel: measured.families[family, channel] for channel in channels_of(measured.families, family)}
    looks = np.sum([figures.places > 0 for figures in found.values()], axis=0)
    needed = np.array([np.inf, *(least_z(limit, number * judge.searched) for number in range(1, len(CHANNELS) + 1))])[looks]
    return {channel: figures.strong & (np.abs(figures.z) >= needed) for channel, figures in found.items()}


def _together(measured: Measured, informative: Sequence[str], judge: Judge) -> Bools:
    """All informative families together in the probe channel, as families.py has it."""
    found = [measured.families[family, "probe"] for family in informative if (family, "probe") in measured.families]
    if not found:
        return np.zeros(len(measured.apart), np.bool_)
    there = np.array([figures.places > 0 for figures in found])
    count = np.maximum(there.sum(axis=0), 1)
    r = np.where(there, [figures.r for figures in found], 0.0).sum(axis=0) / count
    z = np.where(there, [figures.z for figures in found], 0.0)
    upward = (~there | (z > 0)).all(axis=0)
    enough = z.sum(axis=0) / np.sqrt(count) >= least_z(FAMILY_P, len(CHANNELS) * judge.searched)
    return np.asarray((there.sum(axis=0) > 1) & (r >= CHANNEL_R["probe"]) & upward & enough, np.bool_)


def _contradicted(measured: Measured, family: str, sides: Sides) -> Bools:
    """Whether sampled rows agree while Gram matrices of the whole, which should, do not (level full)."""
    count, promised, found = (np.zeros(sides.count) for _ in range(3))
    gram = measured.families.get((family, "gram"))
    for aligned, role, other, at in _beside(measured.families[family, "probe"].parts, gram.parts if gram else ()):
        both = aligned.there[:, role] & other.there[:, at]
        ours = sides.query.matrices("spectrum")[sides.query.at[:, None], aligned.block.query_rows[role]].astype(float)
        theirs = sides.relative.matrices("spectrum")[sides.relative.at[:, None], aligned.rows()[:, role]].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            unequal = np.sqrt(np.minimum(ours, theirs) / np.maximum(ours, theirs))
        count += both.sum(axis=1)
        promised += np.where(both, np.nan_to_num(unequal) * aligned.cosines[:, role] ** 2, 0.0).sum(axis=1)
        found += np.where(both, other.cosines[:, at] - other.means[:, at], 0.0).sum(axis=1)
    enough = count >= FEWEST_STRONG
    return np.asarray(enough & (promised >= LEAST_PROMISE * count) & (found < KEPT_PROMISE * promised), np.bool_)


def _beside(probe: Sequence[Part], gram: Sequence[Part]) -> list[tuple[Aligned, int, Aligned, int]]:
    """Roles of both channels that stand for the same rows."""
    known = {(other.block.roles[at], other.block.query_layers.tobytes()): (other, at) for other, roles in gram for at in roles}
    keys = [(aligned, at, (aligned.block.roles[at], aligned.block.query_layers.tobytes())) for aligned, roles in probe for at in roles]
    return [(aligned, at, *known[key]) for aligned, at, key in keys if key in known]


def _in_few_rows(parts: Sequence[Part], sides: Sides, asked: Bools) -> Bools:
    """Of the pairs asked for: whether matrices of one shape agree in some sampled rows and in half of them or more not at all."""
    found = np.zeros(sides.count, np.bool_)
    at = np.flatnonzero(asked)
    if not len(at):
        return found
    sums: dict[tuple[int, int], list[Floats]] = defaultdict(lambda: [np.zeros((len(at), ROWS)), np.zeros(len(at)), np.zeros(len(at))])
    ours, theirs = sides.query.models[0].matrices, sides.relative.models[0].matrices
    tall = layout_of(sides.query.models[0]).tall
    values = [
        stack.column(("matrices", "probe", "values"), lambda model: model.matrices.sketches["probe"][0])
        for stack in (sides.query, sides.relative)
    ]
    squares = [stack.column("squares of rows", _row_squares) for stack in (sides.query, sides.relative)]
    for aligned, roles in parts:
        others = aligned.rows()[at]
        for role in roles:
            a, b = aligned.block.query_rows[role], others[:, role]
            plain = aligned.there[at, role] & ~tall[a] & (ours.rows[a] == theirs.rows[b]) & (ours.columns[a] == theirs.columns[b])
            x = values[0][sides.query.at[at, None], a].reshape(len(at), len(a), ROWS, WIDTH)
            y = values[1][sides.relative.at[at, None], b].reshape(len(at), len(a), ROWS, WIDTH)
            plain &= x.reshape(len(at), len(a), -1)[:, :, WIDTH * ROWS // 4 :].any(axis=2)  # not a single expert's, which is folded
            products = np.einsum("plrw,plrw->plr", x, y)
            lengths = np.sqrt(squares[0][sides.query.at[at, None], a] * squares[1][sides.relative.at[at, None], b])
            cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
            for shape in {(int(ours.rows[row]), int(ours.columns[row])) for row in a.tolist()}:
                chosen = plain & ((ours.rows[a] == shape[0]) & (ours.columns[a] == shape[1]))
                total, count, empty = sums[shape]
                total += np.where(chosen[:, :, None], cosines, 0.0).sum(axis=1)
                count += chosen.sum(axis=1)
                empty += (chosen[:, :, None] & (lengths == 0)).any(axis=(1, 2))
    for total, count, empty in sums.values():
        rows = np.abs(total / np.maximum(count, 1)[:, None])
        uneven = (rows >= SAME_ROW).any(axis=1) & ((rows <= OTHER_ROW).sum(axis=1) >= FEWEST_OTHERS)
        found[at] |= uneven & (count >= FEWEST_MATRICES) & (empty == 0)
    return found


@once
def _row_squares(model: Fingerprint) -> npt.NDArray[np.float32]:
    """Of each matrix and each of ROWS parts of its sketch the sum of squares (rows, ROWS)."""
    rows = model.matrices.sketches["probe"][0].reshape(-1, ROWS, WIDTH)
    return np.asarray(np.einsum("lrw,lrw->lr", rows, rows))


def _sums(measured: Measured, inherited: dict[str, Bools], sides: Sides) -> tuple[Floats, Floats]:
    """Parameters in aligned places of inherited families, and the same weighted by |cosine|."""
    parameters, weight = np.zeros(sides.count), np.zeros(sides.count)
    sizes = layout_of(sides.query.models[0]).parameters.astype(float)
    for family, kept in inherited.items():
        if kept.any():
            for aligned, roles in measured.families[family, "probe"].parts:
                size = sizes[aligned.block.query_rows[list(roles)]] * aligned.there[:, list(roles)]
                parameters += np.where(kept, size.sum(axis=(1, 2)), 0.0)
                weight += np.where(kept, (size * np.abs(aligned.cosines[:, list(roles)])).sum(axis=(1, 2)), 0.0)
    return parameters, weight


def _norms(measured: Measured, body_kept: Bools, sides: Sides, judge: Judge) -> tuple[Bools, Floats]:
    """Whether norms are kept, and their r."""
    figures: Figures | None = measured.families.get(("norm", "vector"))
    if figures is None:
        return np.zeros(sides.count, np.bool_), np.zeros(sides.count)
    kept = (figures.r >= NORM_R) & (np.abs(figures.z) >= least_z(NORM_P, judge.searched))
    return (figures.places > 0) & (kept | (body_kept & (figures.r >= SAME_NORM_R))), figures.r
