"""What an exact comparison amounts to: p-values, figures by family beside those of strangers, and findings.

The null of a pair is that the channels of the two residual streams have no common order, which holds for models that were trained apart:
training treats all channels alike. Then the channels' contributions to the centred product scatter around 0, whatever else the models
have in common (data, recipe, tokenizer, sizes), and Student's t over channels gives the p-value. Vectors are permuted for real as well.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct, structs
from scipy.special import stdtr

from modelkin_indexer.results.exact import ExactReading, TensorComparison
from modelkin_registry.answers.exact import ExactAnswer, ExactRow, GroupFigures, Spread, Strangers
from modelkin_registry.evidence.nulls import reported_p
from modelkin_registry.evidence.places import INFORMATIVE, NORM_P, NORM_R, ROTARY_NORMS, SHOWN_AS, STRUCTURED_ROLES

SHARED_P = 1e-6  # p-value that a tensor needs, corrected for the tensors of its family: as FAMILY_P for fingerprints
STRANGERS_REACH = 0.02  # |r| that published strangers stay below: 0.0099 in 46 routers, 0.0031 in 92 k and v; twice the largest
CONTROL_MARGIN = 2.0  # a figure has to be this many times a control's to be more than what the control shows as well
EVEN = 0.5  # share of a family's tensors from which the family as a whole is called shared
# Other measures that were argued with in the 2026 dispute, and what each can show: see `TensorComparison`.
MEASURES = (
    "relative_l2",
    "equal_fraction",
    "half_unit_fraction",
    "mean_abs_difference",
    "p99_abs_difference",
    "cv_difference",
    "variance_ratio",
    "wasserstein",
    "kolmogorov",
)


class PValue(Struct, frozen=True):
    """A p-value and how it was come by: `sampled` (its floor is 1/1000), `channels` (Student's t over channels) or why there is none."""

    value: float | None
    kind: str


def p_value(pair: TensorComparison) -> PValue:
    """How likely strangers' tensors agree as far as these do, in either direction.

    For a vector the share of sampled permutations that reach it; where none does, the channels' t if that is smaller.
    """
    if pair.pearson is None:
        return PValue(None, "constant")
    if pair.role in ROTARY_NORMS or (pair.family, pair.role) in STRUCTURED_ROLES:
        return PValue(None, "entries have a common order in all models")
    channels = None if pair.channel_t is None else float(2 * stdtr(pair.channels - 1, -abs(pair.channel_t)))
    if not pair.permutations:
        return PValue(None if channels is None else reported_p(channels), "channels")
    sampled = (pair.exceeded + 1) / (pair.permutations + 1)
    if pair.exceeded == 0 and channels is not None and channels < sampled:
        return PValue(reported_p(channels), "channels")
    return PValue(sampled, "sampled")


Pairs = Sequence[TensorComparison]


def judge_exact(reading: ExactReading, controls: Mapping[str, tuple[Pairs, Pairs]]) -> ExactAnswer:
    """Judge what was measured. `controls` maps a third model's name to its pairs with A and with B."""
    sets: dict[str, Sequence[TensorComparison]] = {"within A": reading.within, "other layers": reading.mismatched}
    for name, (with_a, with_b) in controls.items():
        sets |= {f"A with {name}": with_a, f"B with {name}": with_b}
    return ExactAnswer(
        rows=tuple(_row(pair) for pair in reading.pairs),
        families=tuple(_groups(reading.pairs, sets, lambda pair: "")),
        roles=tuple(_groups(reading.pairs, sets, lambda pair: pair.role)),
        not_compared=reading.not_compared,
        matrices=reading.matrices,
    )


def _row(pair: TensorComparison) -> ExactRow:
    p = p_value(pair)
    return ExactRow(**structs.asdict(pair), p_value=p.value, p_kind=p.kind)


Named = Callable[[TensorComparison], str]


def _groups(pairs: Sequence[TensorComparison], sets: Mapping[str, Sequence[TensorComparison]], role: Named) -> Iterable[GroupFigures]:
    others = {name: _grouped(found, role) for name, found in sets.items()}
    for key, group in _grouped(pairs, role).items():
        strangers = tuple(_strangers(name, groups[key]) for name, groups in others.items() if key in groups)
        yield _figures(key, group, strangers)


def _grouped(pairs: Iterable[TensorComparison], role: Named) -> dict[tuple[str, str, str], list[TensorComparison]]:
    groups: dict[tuple[str, str, str], list[TensorComparison]] = defaultdict(list)
    for pair in pairs:
        groups[pair.component, SHOWN_AS.get(pair.family, pair.family), role(pair)].append(pair)
    return dict(sorted(groups.items()))


def _strangers(name: str, group: Sequence[TensorComparison]) -> Strangers:
    counted = _counted(group)
    return Strangers(name, _over(counted, "cosine"), _over(counted, "cosine_floor"), _over(counted, "pearson"), _measures(counted))


def _counted(group: Sequence[TensorComparison]) -> Sequence[TensorComparison]:
    """Without query and key norms, whose entries follow the rotary pattern in every model, where there are others."""
    return [pair for pair in group if pair.role not in ROTARY_NORMS] or group


def _measures(group: Sequence[TensorComparison]) -> dict[str, Spread | None]:
    return {name: _over(group, name) for name in MEASURES}


def _over(group: Pairs, field: str) -> Spread | None:
    return _spread(getattr(pair, field) for pair in group)


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return Spread(mean, math.sqrt(sum((value - mean) ** 2 for value in known) / len(known)), len(known))


def _figures(key: tuple[str, str, str], group: Sequence[TensorComparison], strangers: tuple[Strangers, ...]) -> GroupFigures:
    component, family, role = key
    counted = _counted(group)
    informative = family in INFORMATIVE
    tests = [p.value for p in map(p_value, counted) if p.value is not None]
    reach = _controls_reach(strangers)
    shared = sum(stands_out(pair, len(tests), informative, reach) for pair in counted)
    equal = sum(pair.equal_fraction == 1 and pair.pearson is not None for pair in counted)
    return GroupFigures(
        component=component,
        family=family,
        role=role,
        tensors=len(counted),
        numbers=sum(pair.n for pair in counted),
        cosine=_over(counted, "cosine"),
        cosine_floor=_over(counted, "cosine_floor"),
        pearson=_over(counted, "pearson"),
        p_value=min(1.0, len(tests) * min(tests)) if tests else None,
        shared=shared,
        equal=equal,
        informative=informative,
        finding=_finding(shared, equal, len(counted), tests, informative),
        measures=_measures(counted),
        strangers=strangers,
    )


def _controls_reach(strangers: Sequence[Strangers]) -> float:
    """The largest mean |r| that a control shows: what a figure has to exceed."""
    return max((abs(s.pearson.mean) for s in strangers if " with " in s.name and s.pearson is not None), default=0.0)


def stands_out(pair: TensorComparison, tests: int, informative: bool, control: float = 0.0) -> bool:
    """Whether a tensor agrees further than strangers' do. `control` is the |r| that a third model shows."""
    if pair.pearson is None:
        return False
    found = p_value(pair).value
    floor, limit = (STRANGERS_REACH, SHARED_P) if informative else (NORM_R, NORM_P)
    if found is None or abs(pair.pearson) < max(floor, min(CONTROL_MARGIN * control, 1.0)):
        return pair.equal_fraction == 1 and found is not None
    return pair.equal_fraction == 1 or found * max(tests, 1) <= limit


def _finding(shared: int, equal: int, tensors: int, tests: Sequence[float], informative: bool) -> str:
    """In a word: identical, shared, partly shared, faint (beyond chance, but no more than strangers are known to show), or none."""
    if equal == tensors:
        return "identical"
    if shared >= EVEN * tensors and shared:
        return "shared"
    if shared:
        return "partly shared"
    if not tests:
        return "not comparable" if informative else "low-information"
    return "faint" if informative and min(tests) * len(tests) <= SHARED_P else "none"
