"""A registry's own backgrounds: how far its strangers of equal shape spread, family by family, where that is more than is shipped.

Strangers are found by the weights alone: of each group of models with equal shapes one model of every lineage, so that a family of
fine-tunes counts once. Each pair gives r less its null from mismatched layers; gram and anchored also with the directions of one side in
another order, which is what permuted axes of the residual stream come to in a sketch. The wider of both is taken, at the upper end of its
95 % confidence interval. It replaces the shipped default only where it is wider, with FEWEST_LINEAGES lineages or more behind it: that
these strangers lie closer together (untrained ones do) does not promise it of the next one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_data import backgrounds
from modelkin_indexer import spec
from modelkin_indexer.gram_vectors import UPPER, UPPER_WEIGHTS
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.batches.cosines import Sides
from modelkin_registry.batches.figures import Aligned
from modelkin_registry.batches.layouts import Stack
from modelkin_registry.batches.pairs import NOTHING, UNTOLD, Group, groups
from modelkin_registry.evidence.families import by_family
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.relations.pairs import Held, hold

FEWEST_LINEAGES = 8  # of equal shape: with fewer the upper end of the interval is more than twice the spread itself
MOST_LINEAGES = 64  # of one shape: 2,016 pairs
UNSURE = 0.05  # the true spread is larger than what is taken in one of twenty registries
ORDERS = 4  # other orders of the directions looked at for each pair
TOGETHER = 32  # models of one shape that are held against each other and those before them at once
Key = tuple[str, str]  # channel and family
Named = tuple[str, Fingerprint]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Figures = tuple[Key, float, list[float]]


class _Samples(Struct):
    """Of one channel and family: excess variance of each pair, by strangers and by permuted axes; and the lineages they come from."""

    strangers: list[float]
    axes: list[float]
    lineages: set[str]


def measure_backgrounds(models: Iterable[tuple[str, Fingerprint]]) -> tuple[OwnBackground, ...]:
    """The backgrounds that these models (name, fingerprint) show. Deterministic; models are taken in the order given.

    Strangers are told apart by the shipped backgrounds: earlier ones of the registry would decide what the next ones are.
    """
    lineages: dict[tuple[object, ...], list[Named]] = defaultdict(list)
    waiting: dict[tuple[object, ...], list[Named]] = defaultdict(list)
    found: dict[Key, _Samples] = defaultdict(lambda: _Samples([], [], set()))
    for name, fingerprint in models:
        shapes = _shapes(fingerprint)
        if len(lineages[shapes]) < MOST_LINEAGES:
            waiting[shapes].append((name, fingerprint))
            if len(waiting[shapes]) == TOGETHER:
                _take(found, lineages[shapes], waiting.pop(shapes))
    for shapes, left in waiting.items():
        _take(found, lineages[shapes], left)
    return tuple(_background(*key, samples) for key, samples in sorted(found.items()))


def _take(found: Mapping[Key, _Samples], lineages: list[Named], models: Sequence[Named]) -> None:
    """Hold models against the lineages before them, and against each other, all at once; those without evidence are further lineages."""
    every = [*lineages, *models]
    chosen = list(range(len(lineages)))  # of `every`, those that are lineages
    pairs = [(new, other) for new in range(len(lineages), len(every)) for other in range(new)]
    numbers = {pair: number for number, pair in enumerate(pairs)}
    shown: dict[int, bool] = {}
    figures: dict[int, list[_Figures]] = {}
    for group in groups([(every[new][1], every[other][1]) for new, other in pairs], ALONE):
        told = {number: one.shows != NOTHING for number, one in group.seen() if one.shows != UNTOLD}
        shown |= told
        for number, figure in _figures_of_many(group, [at for at, number in enumerate(group.numbers) if told.get(number) is False]):
            figures.setdefault(number, []).append(figure)
    for new in range(len(lineages), len(every)):
        if len(chosen) == MOST_LINEAGES:
            break
        asked = [numbers[new, other] for other in chosen]
        for number in [number for number in asked if number not in shown]:
            held = hold(every[new][1], every[pairs[number][1]][1], "", ALONE)
            shown[number], figures[number] = has_evidence(held.kin().relative), list(_figures(held))
        if not any(shown[number] for number in asked):
            for number in asked:
                for key, excess, axes in figures.get(number, ()):
                    samples = found[key]
                    samples.strangers.append(excess)
                    samples.axes += axes
                    samples.lineages |= {every[at][0] for at in pairs[number]}
            chosen.append(new)
    lineages += [every[at] for at in chosen[len(lineages) :]]


def _shapes(fingerprint: Fingerprint) -> tuple[object, ...]:
    table = fingerprint.matrices
    return fingerprint.about.level, table.places, table.rows.tobytes(), table.columns.tobytes()


def _figures(held: Held) -> Iterator[_Figures]:
    """Of one pair by channel and family: the excess variance of its mean cosine, and the same with the directions in other orders."""
    for measured in held.measured:
        for family, places in by_family((*measured.places, *measured.vectors)).items():
            for channel in CHANNELS:
                chosen = [p for p in places if ("probe" if p.channel == "vector" else p.channel) == channel]
                if not chosen:
                    continue
                noise = sum(p.null.sd**2 for p in chosen) / len(chosen) ** 2
                excess = float(np.mean([p.cosine - p.null.mean for p in chosen])) ** 2 - noise
                rows = np.array([[p.query_row for p in chosen]]), np.array([[p.relative_row for p in chosen]])
                sides = Sides(Stack([held.query]), Stack([held.relative]), ("", ""))
                axes = [] if channel == "probe" else _permuted(channel, sides, *rows)[0].tolist()
                yield (channel, family), excess, [r**2 - noise for r in axes]


def _figures_of_many(group: Group, chosen: Sequence[int]) -> Iterator[tuple[int, _Figures]]:
    """The same of some pairs of a group, each with its number."""
    if not chosen:
        return
    at = np.array(chosen)
    sides = group.sides.of(at)
    for measured in group.measured.values():
        for key, parts in measured.by_family().items():
            cells = [aligned.there[at][:, roles] for aligned, roles in parts]
            count = np.sum([there.sum(axis=(1, 2)) for there in cells], axis=0)
            squares = np.sum([(c.sum(axis=2) * a.sds[at][:, r] ** 2).sum(axis=1) for (a, r), c in zip(parts, cells, strict=True)], axis=0)
            apart = [np.where(c, (a.cosines - a.means)[at][:, r], 0.0).sum(axis=(1, 2)) for (a, r), c in zip(parts, cells, strict=True)]
            noise = squares / np.maximum(count, 1) ** 2
            excess = (np.sum(apart, axis=0) / np.maximum(count, 1)) ** 2 - noise
            axes = {} if key[0] == "probe" else _axes(key[0], sides, at, parts, count)
            for place, number in enumerate(chosen):
                if count[place]:
                    turned = (axes[place] ** 2 - noise[place]).tolist() if place in axes else []
                    yield group.numbers[number], (key, float(excess[place]), turned)


def _axes(channel: str, sides: Sides, at: Ints, parts: Sequence[tuple[Aligned, list[int]]], count: Ints) -> dict[int, Floats]:
    """`_permuted` of each pair by its place: pairs with equally many rows together."""
    there = np.concatenate([aligned.there[at][:, roles].reshape(len(at), -1) for aligned, roles in parts], axis=1)
    rows = [
        np.broadcast_to(aligned.block.query_rows[roles], aligned.there[at][:, roles].shape).reshape(len(at), -1) for aligned, roles in parts
    ]
    others = [aligned.rows()[at][:, roles].reshape(len(at), -1) for aligned, roles in parts]
    a, b = np.concatenate(rows, axis=1), np.concatenate(others, axis=1)
    found: dict[int, Floats] = {}
    for number in np.unique(count[count > 0]).tolist():
        same = np.flatnonzero(count == number)
        for start in range(0, len(same), TOGETHER):
            some = same[start : start + TOGETHER]
            own = (one[some][there[some]].reshape(len(some), number) for one in (a, b))
            found |= dict(zip(some.tolist(), _permuted(channel, sides.of(some), *own), strict=True))
    return found


def _permuted(channel: str, sides: Sides, a: Ints, b: Ints) -> Floats:
    """(pairs, ORDERS) mean cosines of rows (pairs, n), the relatives' Gram matrices with their directions in ORDERS other orders."""
    ours, theirs = (_sketches(stack, channel, rows) for stack, rows in ((sides.query, a), (sides.relative, b)))
    full = np.zeros((*a.shape, spec.DIRECTIONS, spec.DIRECTIONS))
    full[..., UPPER[0], UPPER[1]] = full[..., UPPER[1], UPPER[0]] = theirs[0] / UPPER_WEIGHTS
    draw = np.random.default_rng(a.shape[1])
    means = []
    for _ in range(ORDERS):
        order, signs = draw.permutation(spec.DIRECTIONS), draw.choice((-1.0, 1.0), spec.DIRECTIONS)
        places = order[UPPER[0]], order[UPPER[1]]
        turned = full[..., places[0], places[1]] * (signs[UPPER[0]] * signs[UPPER[1]] * UPPER_WEIGHTS)
        means.append((np.sum(ours[0] * turned, axis=2) / (ours[1] * theirs[1])).mean(axis=1))
    return np.stack(means, axis=1)


def _sketches(stack: Stack, channel: str, rows: Ints) -> tuple[Floats, Floats]:
    """Sketches (pairs, n, numbers) of these rows, and their lengths."""
    values = stack.column(("matrices", channel, "values"), lambda model: model.matrices.sketches[channel][0])
    lengths = stack.column(("matrices", channel, "lengths"), lambda model: model.matrices.sketches[channel][1])
    return values[stack.at[:, None], rows], lengths[stack.at[:, None], rows]


def _background(channel: str, family: str, samples: _Samples) -> OwnBackground:
    from scipy.stats import chi2  # a tenth of a second that only this needs

    lineages = len(samples.lineages)
    widest = max(float(np.mean(part)) for part in (samples.strangers, samples.axes) if part)
    free = lineages - 1  # pairs of few models are not independent of each other: models are counted, not pairs
    sd = math.sqrt(max(widest, 0.0) * free / float(chi2.ppf(UNSURE, free)))
    shipped = backgrounds.between_models(family, channel)
    return OwnBackground(channel, family, sd, shipped, len(samples.strangers), lineages, lineages >= FEWEST_LINEAGES and sd > shipped)
