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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from modelkin_data import backgrounds
from modelkin_indexer import spec
from modelkin_indexer.gram_vectors import UPPER, UPPER_WEIGHTS
from modelkin_indexer.results.channels import CHANNELS
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.answers.upkeep import OwnBackground
from modelkin_registry.evidence.families import by_family
from modelkin_registry.evidence.judge import ALONE
from modelkin_registry.evidence.places import PlaceCosine
from modelkin_registry.relations.pairs import Held, hold

FEWEST_LINEAGES = 8  # of equal shape: with fewer the upper end of the interval is more than twice the spread itself
MOST_LINEAGES = 64  # of one shape: 2,016 pairs
UNSURE = 0.05  # the true spread is larger than what is taken in one of twenty registries
ORDERS = 4  # other orders of the directions looked at for each pair


@dataclass
class _Samples:
    """Of one channel and family: excess variance of each pair, by strangers and by permuted axes; and the lineages they come from."""

    strangers: list[float]
    axes: list[float]
    lineages: set[str]


def measure_backgrounds(models: Iterable[tuple[str, Fingerprint]]) -> tuple[OwnBackground, ...]:
    """The backgrounds that these models (name, fingerprint) show. Deterministic; models are taken in the order given.

    Strangers are told apart by the shipped backgrounds: earlier ones of the registry would decide what the next ones are.
    """
    groups: dict[tuple[object, ...], list[tuple[str, Fingerprint]]] = defaultdict(list)
    found: dict[tuple[str, str], _Samples] = defaultdict(lambda: _Samples([], [], set()))
    for name, fingerprint in models:
        known = groups[_shapes(fingerprint)]
        if len(known) < MOST_LINEAGES:
            held = [hold(fingerprint, other, other_name, ALONE) for other_name, other in known]
            if not any(has_evidence(one.kin().relative) for one in held):
                known.append((name, fingerprint))
                for one in held:
                    _take(found, one, name)
    return tuple(_background(*key, samples) for key, samples in sorted(found.items()))


def _shapes(fingerprint: Fingerprint) -> tuple[object, ...]:
    table = fingerprint.matrices
    return fingerprint.about.level, table.places, table.rows.tobytes(), table.columns.tobytes()


def _take(found: Mapping[tuple[str, str], _Samples], held: Held, name: str) -> None:
    for measured in held.measured:
        for family, places in by_family((*measured.places, *measured.vectors)).items():
            for channel in CHANNELS:
                chosen = [p for p in places if ("probe" if p.channel == "vector" else p.channel) == channel]
                if not chosen:
                    continue
                samples = found[channel, family]
                noise = sum(p.null.sd**2 for p in chosen) / len(chosen) ** 2
                samples.strangers.append(float(np.mean([p.cosine - p.null.mean for p in chosen])) ** 2 - noise)
                samples.lineages |= {name, held.name}
                if channel != "probe":
                    samples.axes += [r**2 - noise for r in _permuted(held, chosen)]


def _permuted(held: Held, places: list[PlaceCosine]) -> list[float]:
    """Mean cosine of these places, the relative's Gram matrices with their directions in ORDERS other orders."""
    (ours, our_lengths), (theirs, their_lengths) = (side.matrices.sketches[places[0].channel] for side in (held.query, held.relative))
    a, b = [p.query_row for p in places], [p.relative_row for p in places]
    full = np.zeros((len(places), spec.DIRECTIONS, spec.DIRECTIONS))
    full[:, UPPER[0], UPPER[1]] = full[:, UPPER[1], UPPER[0]] = theirs[b] / UPPER_WEIGHTS
    draw = np.random.default_rng(len(places))
    means = []
    for _ in range(ORDERS):
        order, signs = draw.permutation(spec.DIRECTIONS), draw.choice((-1.0, 1.0), spec.DIRECTIONS)
        turned = full[:, order][:, :, order] * signs[:, None] * signs
        cosines = np.sum(ours[a] * turned[:, UPPER[0], UPPER[1]] * UPPER_WEIGHTS, axis=1) / (our_lengths[a] * their_lengths[b])
        means.append(float(cosines.mean()))
    return means


def _background(channel: str, family: str, samples: _Samples) -> OwnBackground:
    from scipy.stats import chi2  # a tenth of a second that only this needs

    lineages = len(samples.lineages)
    widest = max(float(np.mean(part)) for part in (samples.strangers, samples.axes) if part)
    free = lineages - 1  # pairs of few models are not independent of each other: models are counted, not pairs
    sd = math.sqrt(max(widest, 0.0) * free / float(chi2.ppf(UNSURE, free)))
    shipped = backgrounds.between_models(family, channel)
    return OwnBackground(channel, family, sd, shipped, len(samples.strangers), lineages, lineages >= FEWEST_LINEAGES and sd > shipped)
