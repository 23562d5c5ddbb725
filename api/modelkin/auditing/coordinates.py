"""Coordinates that training does not leave: gains folded into matrices, scales moved between them, a stream turned.

Each is a change that leaves what a model computes as it is. Facts are told with their numbers; why a file is so, they do not tell.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from modelkin.auditing.examined import IS_CHANGE, NO_WEIGHTS, NOT_FULL, Examined, Found, counted
from modelkin.auditing.units import Pair
from modelkin_data import name_tables
from modelkin_indexer.anatomy import layouts
from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import SIDES
from modelkin_registry.evidence.start import learned_share

FEWEST_GAINS = 3  # norms of a component from which "all of them" says something
FEWEST_LAYERS = 3  # layers of which one can differ from the others
TRAINED = 0.5  # share of a component's matrices that no random start gives, from which it was trained: of starts nearly none
# Correlation between the logarithms of the norms of two matrices' units, from which scales were moved: in the middle layer of a component,
# and in any layer. Short training keeps them alike (-0.1 to 0.97 in 33 small nets). The least in real models is -0.46 in the middle layer,
# -0.86 in one (Qwen 2.5, up and down), and -0.73 of v and o (Gemma 3). Scales drawn from exp(+-1) give -0.9 to -1. (results/audit.json)
OPPOSITE_MIDDLE, OPPOSITE = -0.75, -0.95
# Logarithm of the ratio of the norms of two matrices of a layer, less its median over the layers: twice the largest of the same models.
APART = {"q and k": 1.3, "v and o": 1.9, "up and down": 4.4}
# Spread of the norms along the residual stream, in units of what a stream in random orientation gives, up to which none of its channels
# stands out. Nets turned on purpose: 0.9 to 1.1. Of real transformers 1.5 (T5) to 6.5 (Whisper); nets trained for some minutes have 0.6 to
# 1, turned or not, which the sentence says.
EVEN = 1.15


def folded(it: Examined) -> Found:
    """Components all of whose gains are 1, though their matrices were trained."""
    if it.is_change:
        return IS_CHANGE
    if not any(place.family == "norm" for place in it.fingerprint.vectors.places):
        return "it has no norm gains"
    found = []
    for component, gains in sorted(_plain_gains(it).items()):
        words = (
            f"All {len(gains)} norm gains of {component} are exactly {_neutral(it, component)}, while its matrices are no random start: "
            "as where gains were multiplied into the matrices that read them, or were never trained."
        )
        found.append(it.unusual("folded", words, it.names(gains)))
    return found


def _plain_gains(it: Examined) -> dict[str, list[Place]]:
    """Trained components all of whose gains are neutral: 1, or 0 where the architecture stores them less 1."""
    table, gains, others = it.fingerprint.vectors, defaultdict[str, list[Place]](list), set()
    for row, place in enumerate(table.places):
        if place.family == "norm":
            gains[place.component].append(place)
            if not table.constant[row] or table.mean[row] != _neutral(it, place.component):
                others.add(place.component)
    kept = {component: places for component, places in gains.items() if component not in others and len(places) >= FEWEST_GAINS}
    return {component: places for component, places in kept.items() if _is_trained(it, component)}


def _neutral(it: Examined, component: str) -> int:
    section = layouts.config_section(it.config, component)
    return int(str(section.get("model_type", it.config.get("model_type", ""))) not in name_tables().gains_less_one)


def _is_trained(it: Examined, component: str) -> bool:
    level = it.fingerprint.about.level
    shares = [learned_share(it.matrices, row, level) for row, place in enumerate(it.matrices.places) if place.component == component]
    return bool(shares) and sum(share > 0 for share in shares) >= TRAINED * len(shares)


def rotated(it: Examined) -> Found:
    """Such components whose residual stream has no channel that stands out."""
    if it.is_change:
        return IS_CHANGE
    if not it.is_full:
        return NOT_FULL
    if not (neutral := _plain_gains(it)):
        return "it is looked for only where all norm gains are neutral, as a rotation takes"
    found = []
    for component, gains in sorted(neutral.items()):
        even = evenness(it, component)
        if even is not None and even <= EVEN:
            words = (
                f"No channel of {component}'s residual stream stands out: norms along it spread {even:.2f} times as far as in a stream "
                f"that is turned at random, and all {len(gains)} gains are neutral. As after a rotation, or after a short training."
            )
            found.append(it.unusual("rotated", words, it.names([p for p in it.matrices.places if p.component == component])))
    return found


def evenness(it: Examined, component: str) -> float | None:
    """The median of a component's matrices; None where too few tell."""
    spreads = [_evenness(it, row) for row, place in enumerate(it.matrices.places) if place.component == component]
    known = [spread for spread in spreads if math.isfinite(spread)]
    return float(np.median(known)) if len(known) >= FEWEST_LAYERS else None


def _evenness(it: Examined, row: int) -> float:
    """Spread of the norms on the side of the residual stream, over that of numbers of this spectrum in random orientation.

    Norms of n independent numbers spread by 1 / sqrt(2 n); where eigenvalues differ, a random orientation of d channels adds to that
    2 / d times the variance of the eigenvalues, which `spectrum` tells.
    """
    table, side = it.matrices, SIDES[int(it.matrices.side[row])]
    if side == "none":
        return math.nan
    inward = side == "in"
    rows, columns = float(table.rows[row]), float(table.columns[row])
    spread, numbers = (float(table.column_spread[row]), float(table.seen[row])) if inward else (float(table.row_spread[row]), columns)
    channels, freedom = (columns, rows) if inward else (rows, columns)
    uneven = max(0.0, float(table.spectrum[row]) - 1) * channels / freedom
    return spread / (math.sqrt(2 / numbers + 2 / channels * uneven) / 2) if numbers else math.nan


def rescaled_units(it: Examined) -> Found:
    """Layers in which the units of one matrix are large where those of the other are small."""
    if why := _not_paired(it):
        return why
    held = it.pairs
    if not any(pair.r is not None for pair in held):
        return "no two matrices of a layer have units in common that can be told apart"
    found = []
    for words, opposite in _opposite(held):
        least = min(pair.r for pair in opposite if pair.r is not None)
        told = (
            f"In {counted(len(opposite), 'layer')} the norms of units of {words} are opposite: their logarithms correlate down to "
            f"{least:.2f}, as where scales were moved from one to the other."
        )
        found.append(it.unusual("rescaled-units", told, it.names([p for pair in opposite for p in (pair.first, pair.second)])))
    return found


def _opposite(held: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Of each kind of pair and component the layers whose norms are opposite."""
    stacks: dict[tuple[str, str], list[tuple[float, Pair]]] = defaultdict(list)
    for pair in held:
        if pair.r is not None:
            stacks[pair.words, pair.first.component].append((pair.r, pair))
    for (words, _), some in sorted(stacks.items()):
        throughout = len(some) >= FEWEST_LAYERS and float(np.median([r for r, _ in some])) <= OPPOSITE_MIDDLE
        if opposite := [pair for r, pair in some if r <= (OPPOSITE_MIDDLE if throughout else OPPOSITE)]:
            yield words, opposite


def rescaled_layers(it: Examined) -> Found:
    """Layers whose two matrices differ in size as no other layer's."""
    if why := _not_paired(it):
        return why
    stacks: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in it.pairs:
        stacks[pair.words, pair.first.component].append(pair)
    if not any(len(held) >= FEWEST_LAYERS for held in stacks.values()):
        return f"no {FEWEST_LAYERS} layers have two such matrices"
    found = []
    for (words, component), held in sorted(stacks.items()):
        middle = float(np.median([pair.ratio for pair in held]))
        apart = [pair for pair in held if abs(pair.ratio - middle) > APART[words]] if len(held) >= FEWEST_LAYERS else []
        if apart:
            most = math.exp(max(abs(pair.ratio - middle) for pair in apart))
            told = (
                f"In {len(apart)} of {len(held)} layers of {component} the sizes of {words} stand to each other as in no other: "
                f"by {most:.3g} times from the middle one, as where a scale was moved from one to the other."
            )
            found.append(it.unusual("rescaled-layers", told, it.names([p for pair in apart for p in (pair.first, pair.second)])))
    return found


def _not_paired(it: Examined) -> str:
    if it.source is None:
        return NO_WEIGHTS
    return IS_CHANGE if it.is_change else "" if it.is_full else NOT_FULL
