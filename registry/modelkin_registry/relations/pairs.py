"""Everything between two whole models: each component of the one against its counterpart, the relation, and the order of relatives."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import ComponentEvidence, Relative
from modelkin_registry.answers.parts import Counterparts, Lone
from modelkin_registry.answers.relations import RELATIONS, has_evidence
from modelkin_registry.counterparts.common_names import UNTOLD, Common, named_further, under_common_names, untold
from modelkin_registry.counterparts.copying.copies import Copy, copy_of
from modelkin_registry.counterparts.table import counterparts
from modelkin_registry.evidence.families import judge_components, may_widen
from modelkin_registry.evidence.judge import Judge, Strangers
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.evidence.places import ComponentPair, Measurement, measure_components
from modelkin_registry.evidence.side import Side
from modelkin_registry.relations.alternatives import alternatives
from modelkin_registry.relations.changes import what_changed
from modelkin_registry.relations.decisions import Relation, component_relation, tokens_cleared
from modelkin_registry.relations.gains import may_be_turned, same_gains
from modelkin_registry.relations.lengths import same_lengths, same_lengths_by_shape
from modelkin_registry.relations.lone import lone_matrices
from modelkin_registry.relations.whole import copied_relation, copied_throughout, informative_sizes, model_relation, parts_of

NAMING = 8  # nearest relatives that name the tensors of a query whose own names tell nothing: one for each of its components
LESS_FOR_EXTRA = 1e-6  # closeness that a copy loses where the relative holds more: of several the one comes first that holds least besides
AGREES = 0.5  # share of the comparable weights that agree, from which it is not true that nothing agrees but the lengths
TINY = 1e-9  # coverage of a model of which nothing was understood


class Kin(Struct, frozen=True):
    """One model held against another. `closeness` orders relatives: the share of all the query's weights that agree, times their cosine.

    `same_lengths`: nothing that was compared agrees, and yet matrices have the same lengths place by place (relations/lengths.py).
    `same_gains`, `may_be_turned`: nor does it at level probe, which does not see what gains hint at (relations/gains.py).
    """

    relative: Relative
    closeness: float
    comparable_parameters: int
    model_id: int = 0
    same_lengths: bool = False
    same_gains: bool = False
    may_be_turned: bool = False


def measure_kin(query: Fingerprint, relative: Fingerprint, name: str, judge: Judge) -> Kin:
    """Hold a query against one model."""
    return hold(query, relative, name, judge).kin()


class Held(Struct, frozen=True):
    """Two models held against each other and measured. Judging costs little of that, and may be done again."""

    common: Common
    name: str
    origin: str
    model_id: int
    measured: tuple[Measurement, ...]
    copy: Copy | None
    judge: Judge

    @property
    def query(self) -> Fingerprint:
        """The query under common names."""
        return self.common.query

    @property
    def relative(self) -> Fingerprint:
        """The relative under common names."""
        return self.common.relative

    def counterparts(self, *, tensors: bool = False) -> Counterparts:
        """How the query's tensors found their counterparts; with `tensors` each of them."""
        return counterparts(self.common, self.measured, copied=self.copy is not None, tensors=tensors)

    def kin(self, *, brief: bool = False) -> Kin:
        """What the measurements say; `brief`: without what was changed in each component, and what else may be behind it."""
        return _judged(self, [judge_components(measured, self.judge) for measured in self.measured], brief)

    def kin_beside(self, strangers: Strangers, kin: Kin) -> Kin:
        """What they say beside what strangers show of the query; `kin` is what they say without, which holds where that widens no null."""
        if not any(may_widen(measured, strangers, self.judge) for measured in self.measured):
            return kin
        return self.widened(strangers).kin()

    def widened(self, strangers: Strangers) -> Held:
        """The same measurements, to be judged beside what strangers show of the query."""
        return replace(self, judge=self.judge.widened(strangers))


def hold(query: Fingerprint, relative: Fingerprint, name: str, judge: Judge, *, origin: str = "", model_id: int = 0) -> Held:
    """Measure every component that both have; tensors of other names that hold the same stand for each other."""
    copy, common = copy_of(query, relative), under_common_names(query, relative, judge)
    measured = tuple(measure_components(Side(common.query, ours), Side(common.relative, theirs)) for ours, theirs in common.components)
    return Held(common, name, origin, model_id, measured, copy, judge)


def under_their_names(query: Fingerprint, evident: Iterable[Held]) -> Fingerprint | None:
    """The query under the names of its nearest relatives, where its own tell nothing; None where they do, or nothing is near."""
    read = sorted((held for held in evident if held.query is not query), key=lambda held: order(held.kin()))[:NAMING]
    if not read:
        return None
    named = read[0].query
    for held in read[1:]:
        named = named_further(named, query, held.relative, held.judge)
    return named


def _judged(held: Held, pairs: Sequence[ComponentPair], brief: bool) -> Kin:
    apart = copied_throughout([(pair, component_relation(pair)) for pair in pairs], held.query)
    some_of_it = held.query.about.shards and held.copy is not None and held.copy.extra  # of a model whose rest is not there
    only_parts = some_of_it or any(map(tokens_cleared, pairs))
    copied = copied_relation(None if only_parts else held.copy, lambda: model_relation(apart, held.query))
    found = [(pair, copied if copied and _same_name(pair) else relation) for pair, relation in apart]
    relation = copied or model_relation(found, held.query)
    extra = held.copy.extra if held.copy is not None and copied else 0.0
    components = [
        _component_evidence(pair, one, () if brief else what_changed(pair, one)) for pair, one in found if one.name != "not comparable"
    ]
    parts = parts_of(found, held.query, copied=copied.name if copied else "")
    comparable = sum(pair.comparable_parameters for pair in pairs)
    inherited = sum(pair.inherited_parameters for pair, one in found if one.is_descent) if relation.is_descent else 0
    weight = sum(pair.inherited_weight * pair.comparable_parameters for pair, _ in apart)
    unexplained = not relation.is_descent and weight < AGREES * comparable
    everything = sum(informative_sizes(held.query).values()) / max(held.query.about.coverage, TINY)
    return Kin(
        Relative(
            model=held.name,
            relation=relation.name,
            also=relation.also,
            shared=1.0 if copied else round(inherited / comparable, 4) if comparable else 0.0,
            p_value=SMALLEST_P if copied else _overall_p(components, relation),
            components=tuple(components),
            source=held.origin,
            sampled="probe" in (held.query.about.level, held.relative.about.level),
            quantization=_stored_as(held) if "quantized" in (relation.name, *relation.also) else {},
            compared=round(sum(part.share * part.compared for part in parts) * held.query.about.coverage, 4),
            shared_of_all=round(sum(part.share * part.shared for part in parts) * held.query.about.coverage, 4),
            parts=parts,
            alternatives=() if brief else alternatives(relation, [pair for pair, _ in found]),
            extra=round(extra, 4),
            rounded=relation.name == "recast" and held.query.about.dtypes.keys() == held.relative.about.dtypes.keys(),
            lone=_lone_matrices(held, found) if relation.name == "shared initialisation" else (),
        ),
        closeness=1.0 - LESS_FOR_EXTRA * extra if copied else weight / everything if everything else 0.0,
        comparable_parameters=comparable,
        model_id=held.model_id,
        same_lengths=unexplained and _same_lengths(held),
        same_gains=unexplained and same_gains(held.query, held.relative, held.judge.searched),
        may_be_turned=unexplained and may_be_turned(held.query, held.relative),
    )


def _lone_matrices(held: Held, found: Sequence[tuple[ComponentPair, Relation]]) -> tuple[Lone, ...]:
    started = [pair for pair, relation in found if relation.name == "shared initialisation"]
    return lone_matrices(started, held.common.own_names[0], sum(informative_sizes(held.query).values()))


def _same_lengths(held: Held) -> bool:
    """By places; of a model whose names tell nothing by shapes, since its places are those that its spreads looked like."""
    named, other = sorted(held.common.own_names, key=lambda side: untold(side.about))
    if untold(other.about) > UNTOLD:
        return same_lengths_by_shape(named, other, held.judge.searched)
    return same_lengths(held.query, held.relative, held.judge.searched)


def _stored_as(held: Held) -> dict[str, str]:
    sides = {"query": held.query.about.quantization, "relative": held.relative.about.quantization}
    return {side: kind for side, kind in sides.items() if kind}


def _same_name(pair: ComponentPair) -> bool:
    return pair.query.component == pair.relative.component


def _component_evidence(pair: ComponentPair, relation: Relation, changes: tuple[str, ...]) -> ComponentEvidence:
    """A component as it is told: nothing informative is inherited without descent."""
    keep = relation.is_descent
    families = tuple(f if keep or not (f.inherited and f.informative) else replace(f, inherited=False) for f in pair.families)
    return ComponentEvidence(
        query=pair.query.component,
        relative=pair.relative.component,
        relation=relation.name,
        shared=round(pair.inherited_parameters / pair.comparable_parameters, 4) if keep and pair.comparable_parameters else 0.0,
        layer_map=pair.layer_map.pairs if pair.layer_map.found else (),
        families=families,
        changes=changes,
    )


def _overall_p(components: Sequence[ComponentEvidence], relation: Relation) -> float | None:
    """The smallest p-value of an informative family, corrected for the number of families looked at: sketches of theirs are independent.

    Šidák (1967), Rectangular confidence regions for the means of multivariate normal distributions.
    """
    values = [f.p_value for c in components for f in c.families if f.informative and f.p_value is not None]
    if not values or relation.name == "not comparable":
        return None
    least = min(values)
    if least <= SMALLEST_P or least >= 1.0:
        return least
    return -math.expm1(len(values) * math.log1p(-least))


def nearest_kin(kin: Sequence[Kin], held: Mapping[int, Held], strangers: Strangers, k: int, *, show_all: bool = False) -> list[Relative]:
    """The k best, those with evidence judged again with the registry's own strangers as background (relations/strangers.py).

    Best first: descent, then shared initialisation and norms only, then the rest; low-rank changes first, then by closeness, ties by name.
    A wider background weakens evidence, so the second look goes only as far down as is shown. `held` has the models with evidence, by
    number.
    """
    doubtful = held if any(strangers.values()) else {}
    waiting = [(order(one), one.model_id in doubtful, one) for one in kin]
    heapq.heapify(waiting)  # names are unique, so nothing behind them is ever compared
    found: list[Relative] = []
    while waiting and len(found) < k:
        _, again, one = heapq.heappop(waiting)
        if again:
            judged = doubtful[one.model_id].kin_beside(strangers, one)
            heapq.heappush(waiting, (order(judged), False, judged))
        elif show_all or has_evidence(one.relative):
            found.append(one.relative)
    return found


def order(kin: Kin) -> tuple[float, bool, float, str]:
    """What relatives are sorted by: descent, low-rank change, closeness, name.

    A change of low rank is only low against the model that it was made to: against that model's other descendants their own changes are
    added to it, though training on the same texts may have left one of them nearer.
    """
    relation = kin.relative.relation
    return -RELATIONS[relation].rank, relation != "low-rank delta", -round(kin.closeness, 9), kin.relative.model
