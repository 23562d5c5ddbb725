"""What a family's places amount to in one channel: their mean against its null, and a few strong places where the mean shows nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.results.channels import CHANNELS
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.experts import EXPERT_COSINE
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import Null, average_null, two_sided_p
from modelkin_registry.evidence.places import FURTHER_P, Measurement, PlaceCosine
from modelkin_registry.evidence.planted import in_few_rows

# Gram and anchored: layers in which a family must agree, each beyond what neighbouring layers have in common. A layer that reads (or
# writes) what both models read looks alike in its Gram matrix though nothing is copied: 44 of 150 pairs of digit classifiers by one layer.
FEWEST_LAYERS = 2
# A few places that share while most do not: siblings that kept some kernels (PP-OCR detectors: 2 to 6 of 34 to 64 at r 0.7 to 0.92).
FEWEST_STRONG, STRONG_SD, STRONG_R = 2, 5.0, 0.4
LONE_R = 0.8  # of a lone one, which is told and decides nothing: what was certainly taken over (decisions.CERTAIN_R)
FEWEST_PLACES = 3  # below, the mean says as much
# Sampled rows that agree promise Gram matrices that agree; below this share of what they promise the sample does not stand for the whole.
# Promised are r^2, and less where one side has more structure than the other. Trained descendants keep 0.8 and more.
KEPT_PROMISE, LEAST_PROMISE = 0.25, 0.3


class ChannelResult(Struct, frozen=True):
    """A family in one channel: its mean cosine against its null. `strong`: whether r, and the places behind it, are enough."""

    r: float
    null: Null
    z: float
    p_value: float
    strong: bool


def channel_result(family: str, channel: str, places: Sequence[PlaceCosine], judge: Judge, looks: int = 1) -> ChannelResult:
    """The mean cosine of a family's places in one channel, judged; its p-value is corrected for `looks` channels and models searched."""
    r = sum([place.cosine for place in places]) / len(places)
    null = average_null([place.null for place in places], family, channel, judge)
    z = (r - null.mean) / null.sd
    signed = abs(r) if channel == "probe" else r  # a negated copy is a copy; a Gram matrix has no sign
    return ChannelResult(r, null, z, two_sided_p(z, looks * judge.searched), signed >= CHANNEL_R[channel])


def matrix_result(
    family: str, channel: str, places: Sequence[PlaceCosine], measured: Measurement, judge: Judge, looks: int
) -> ChannelResult:
    """The same of matrices: in gram and anchored only places count that have other layers to stand out from, or the very same numbers."""
    if channel == "probe":
        return channel_result(family, channel, places, judge, looks)
    apart = [p for p in places if p.null.mean != 0.0]
    found = channel_result(family, channel, apart or places, judge, looks)
    if not found.strong:
        return found
    layers = {p.layers[0] for p in apart if p.cosine >= CHANNEL_R[channel]}
    enough = (len(layers) >= FEWEST_LAYERS and not measured.changes_only) or same_numbers(places, measured)
    return found if enough else ChannelResult(found.r, found.null, found.z, found.p_value, False)


def same_numbers(places: Sequence[PlaceCosine], measured: Measurement) -> bool:
    """Whether in all of these places both matrices hold the same numbers, in whatever order of rows and of columns (level full)."""
    ours, theirs = measured.query.matrices.numbers, measured.relative.matrices.numbers
    if not (ours.shape[1] and theirs.shape[1]):
        return not places
    return bool((ours[[p.query_row for p in places]] == theirs[[p.relative_row for p in places]]).all())


class Standing(Struct, frozen=True):
    """How a family stands: by channel what it shows, the channel that decides, and its places there.

    `few`: evidence rests on a few places alone, which `places` are. `contradicted`: the sampled rows agree and the whole matrices do not,
    or some of the sampled rows agree and the others do not.
    """

    results: Mapping[str, ChannelResult]
    channel: str
    places: Sequence[PlaceCosine]
    stands: bool = False
    few: bool = False
    contradicted: bool = False

    def stands_throughout(self, limit: float) -> bool:
        """Whether every channel that was measured shows it below this limit: below a wider one it stands in just the same way."""
        return all(result.strong and result.p_value <= limit for result in self.results.values())


class Looked(Struct, frozen=True):
    """A family's places, all of them and by channel, and what each channel shows by their mean, whatever limit it is judged by."""

    family: str
    group: Sequence[PlaceCosine]
    places: Mapping[str, Sequence[PlaceCosine]]
    results: Mapping[str, ChannelResult]


def look(family: str, group: Sequence[PlaceCosine], measured: Measurement, judge: Judge) -> Looked:
    """What a family's places show."""
    places = {c: mine for c in CHANNELS if (mine := [p for p in group if p.channel == c])}
    return Looked(family, group, places, {c: matrix_result(family, c, mine, measured, judge, len(places)) for c, mine in places.items()})


def standing(looked: Looked, measured: Measurement, judge: Judge, limit: float) -> Standing:
    """The first channel that shows a family below `limit`, by its mean or by a few strong places; else the first one measured.

    Its p-value is then that of one look: nothing was chosen by what the channels show. Of experts that stand alone some may be another
    model's: where some are matched and some are not, their mean says nothing.
    """
    family, places, results = looked.family, looked.places, looked.results
    evident = [c for c, result in results.items() if result.strong and result.p_value <= limit]
    if evident and evident[0] == "probe" and not _some_experts_alone(family, places["probe"]):
        return _by_samples(looked, measured, judge, lone=len(evident) == 1)
    few = _few_places(family, places.get("probe", []), results, measured, judge, limit)
    in_place = bool(few and evident) and evident[0] != "probe" and same_numbers(places[evident[0]], measured)
    if evident and evident[0] != "probe" and not in_place and not _some_experts_alone(family, places.get("probe", [])):
        return Standing(results, evident[0], places[evident[0]], stands=True)
    if few:
        return few
    alike = measured.changes_only and "gram" in results and results["gram"].r >= CHANNEL_R["gram"] and results["gram"].p_value <= limit
    if alike:
        return Standing(results, "gram", places["gram"])
    first = next(iter(results))
    one_look = replace(results[first], p_value=two_sided_p(results[first].z, judge.searched))
    return Standing({**results, first: one_look}, first, places[first])


def _some_experts_alone(family: str, places: Sequence[PlaceCosine]) -> bool:
    """Whether some experts that stand alone are matched and others are not."""
    experts = matched_experts(places) if family == "expert" else set()
    return bool(experts) and len(experts) < sum(map(_is_alone, places))


def _by_samples(looked: Looked, measured: Measurement, judge: Judge, *, lone: bool) -> Standing:
    """How a family stands that the probe channel shows, `lone`: no other does; by all of its places or by those alone that are strong."""
    family, places, results = looked.family, looked.places["probe"], looked.results
    if contradicted(looked.group, measured) or (lone and in_few_rows(places, measured)):
        return Standing(results, "probe", places, stands=False, contradicted=True)
    some = [] if measured.changes_only else strong_alone(family, places, judge)
    if not some:
        return Standing(results, "probe", places, stands=True)
    told = replace(channel_result(family, "probe", some, judge), p_value=results["probe"].p_value)
    return Standing({**results, "probe": told}, "probe", some, stands=True, few=True)


def _few_places(
    family: str,
    places: Sequence[PlaceCosine],
    results: Mapping[str, ChannelResult],
    measured: Measurement,
    judge: Judge,
    limit: float,
) -> Standing | None:
    """What rests on a few places of the probe channel alone, or on one; None where that does not stand."""
    if measured.changes_only:
        return None
    for some, p_value in (strong_places(family, places, judge), lone_place(family, places, judge)):
        if some and p_value <= limit:
            found = replace(channel_result(family, "probe", some, judge), p_value=p_value)
            forged = in_few_rows(places, measured)
            return Standing({**results, "probe": found}, "probe", some, not forged, few=True, contradicted=forged)
    return None


def strong_alone(family: str, places: Sequence[PlaceCosine], judge: Judge) -> list[PlaceCosine]:
    """The places that stand out one by one, where all others together show nothing: a part in common beside matrices of another's own.

    None where the others show something, by their sum or their spread, however weakly: training may have moved some places far.
    """
    z = _scores(family, places, judge)
    strong = [p for p, one in zip(places, z, strict=True) if abs(one) >= STRONG_SD and abs(p.cosine) >= STRONG_R]
    rest = [one for p, one in zip(places, z, strict=True) if p not in strong]
    if not (strong and rest) or (len(strong) < FEWEST_STRONG and abs(strong[0].cosine) < LONE_R):
        return []
    shows = min(two_sided_p(sum(rest) / math.sqrt(len(rest))), chi_square_p(sum(one**2 for one in rest), len(rest)))
    return [] if shows <= FURTHER_P else strong


def lone_place(family: str, places: Sequence[PlaceCosine], judge: Judge) -> tuple[list[PlaceCosine], float]:
    """The one place that stands out by itself among others, and its p-value for so many looks: a head or a table of another model's."""
    close = [p for p in places if abs(p.cosine) >= LONE_R]
    if len(close) != 1 or len(places) < FEWEST_STRONG:
        return [], 1.0
    return close, two_sided_p(_scores(family, close, judge)[0], len(places) * len(CHANNELS) * judge.searched)


def _scores(family: str, places: Sequence[PlaceCosine], judge: Judge) -> list[float]:
    """z of each place of the probe channel by itself, beside what varies between unrelated models."""
    spread = judge.between_models(family, "probe")
    return [(p.cosine - p.null.mean) / math.hypot(p.null.sd, spread) for p in places]


def strong_places(family: str, places: Sequence[PlaceCosine], judge: Judge) -> tuple[list[PlaceCosine], float]:
    """Places of the probe channel that stand out one by one, and the p-value of so much excess over all of them; none and 1 if they do not.

    The sum of z^2 over all places against chi-square, and FEWEST_STRONG places of STRONG_SD each, or of matched experts: strangers show
    neither.
    """
    if len(places) < FEWEST_PLACES or sum([abs(p.cosine) >= STRONG_R for p in places]) < FEWEST_STRONG:
        return [], 1.0  # as below, before more is asked of all of them
    z = _scores(family, places, judge)
    experts = matched_experts(places)
    reached = [abs(one) >= STRONG_SD or p in experts for p, one in zip(places, z, strict=True)]
    strong = [p for p, enough in zip(places, reached, strict=True) if enough and abs(p.cosine) >= STRONG_R]
    if len(strong) < FEWEST_STRONG:
        return [], 1.0
    return strong, min(1.0, chi_square_p(sum(one**2 for one in z), len(z)) * len(CHANNELS) * judge.searched)


def matched_experts(places: Sequence[PlaceCosine]) -> set[PlaceCosine]:
    """Places of experts that stand alone, as `gate 3` does, and are found by their matrices together: a sketch of one is short."""
    alone: dict[tuple[int, str], list[PlaceCosine]] = defaultdict(list)
    for place in filter(_is_alone, places):
        alone[place.layers[0], place.role.rpartition(" ")[2]].append(place)
    found = (mine for mine in alone.values() if sum(abs(p.cosine) for p in mine) >= EXPERT_COSINE * len(mine))
    return {place for mine in found for place in mine}


def _is_alone(place: PlaceCosine) -> bool:
    return place.family == "expert" and place.role.rpartition(" ")[2].isdigit()


def chi_square_p(value: float, freedom: int) -> float:
    """Upper tail of chi-square by Wilson and Hilferty (1931), which errs to the large side far out."""
    part = 2 / (9 * freedom)
    return 0.5 * math.erfc(((value / freedom) ** (1 / 3) - (1 - part)) / math.sqrt(2 * part))


def contradicted(group: Sequence[PlaceCosine], measured: Measurement) -> bool:
    """Whether sampled rows agree while Gram matrices of the whole, which should, do not (level full)."""
    probe = {(p.query_row, p.relative_row): p for p in group if p.channel == "probe"}
    both = [(probe[at], p) for p in group if p.channel == "gram" and (at := (p.query_row, p.relative_row)) in probe]
    if len(both) < FEWEST_STRONG:
        return False
    ours = measured.query.matrices.spectrum[[p.query_row for p, _ in both]].astype(float)
    theirs = measured.relative.matrices.spectrum[[p.relative_row for p, _ in both]].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        unequal = np.sqrt(np.minimum(ours, theirs) / np.maximum(ours, theirs))
    promised = np.nan_to_num(unequal) * np.array([p.cosine for p, _ in both]) ** 2
    found = np.array([gram.cosine - gram.null.mean for _, gram in both])
    return bool(promised.mean() >= LEAST_PROMISE and found.mean() < KEPT_PROMISE * promised.mean())
