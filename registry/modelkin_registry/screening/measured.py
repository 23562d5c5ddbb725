"""What was measured of one submission: all that decisions need, small enough to be kept and read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import QueryAnswer, Unusual
from modelkin_registry.answers.evidence import ComponentEvidence, Relative
from modelkin_registry.answers.plain import Plain
from modelkin_registry.answers.relations import DESCENT_FREE, is_descent
from modelkin_registry.answers.sides import is_change
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.relations.whole import informative_sizes
from modelkin_registry.screening.declared import ANY

COMMON_START = "shared initialisation"
DECLARING = ("base_model", "merged_from")  # claims of a folder by which a submission declares a base


class Kinship(Plain, frozen=True):
    """One component of a submission beside a component of another model, with evidence of descent.

    `whole` is the relation of the whole submission to that model. `p_value` is that of the whole, corrected for the `searched` models;
    `apart` is the mean of 1 - r over the informative families that were inherited, which orders kin by nearness.
    """

    relative: str
    component: str
    relative_component: str
    relation: str
    whole: str
    family: str | None
    p_value: float
    searched: int
    shared: float
    apart: float

    @property
    def pair_p(self) -> float:
        """The p-value of this pair alone, not corrected for the search: no smaller than anything measures."""
        return max(self.p_value / self.searched, SMALLEST_P)


class Said(Plain, frozen=True):
    """A model that a submission says it was made from: as it says, as it is registered (None if it is not), and what the weights show of
    it ("consistent", "nothing", "not comparable", "not measurable" or "not registered"); `source` says where it says so."""

    value: str
    model: str | None
    verdict: str
    source: str


class Measured(Plain, frozen=True):
    """A submission, measured against the registry.

    shares       component -> its share of the informative weights
    uncompared   components of which nothing had a counterpart in any registered model
    same_lengths registered models of whose matrices it has the lengths, though nothing else agrees
    started      registered models with which it has a common start only
    bases        what it and, where the policy reads it, its folder name as bases
    licence      what its folder says
    audit        (code, sentence) of what is unusual
    from_weights False where only a written fingerprint was given, so that nobody saw the weights
    is_change    whether it is an adapter without its base
    digest       of what its weights hold
    """

    level: str
    key: str
    parameters: int
    coverage: float
    shares: dict[str, float]
    uncompared: tuple[str, ...]
    verdict: str
    examined_share: float
    models: int
    same_lengths: tuple[str, ...]
    kin: tuple[Kinship, ...]
    started: tuple[str, ...]
    bases: tuple[Said, ...]
    licence: tuple[str, ...]
    audit: tuple[tuple[str, str], ...]
    from_weights: bool
    is_change: bool
    digest: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of_dict(cls, plain: Mapping[str, Any]) -> Self:
        """From what `to_dict` made. Raises KeyError, TypeError where it is something else."""
        given: dict[str, Any] = {name: plain[name] for name in cls.__struct_fields__}
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        kin, bases = (Kinship(**row) for row in plain["kin"]), (Said(**row) for row in plain["bases"])
        audit = tuple((str(code), str(sentence)) for code, sentence in plain["audit"])
        return cls(**{**given, **lists, "kin": tuple(kin), "bases": tuple(bases), "audit": audit})


def measured_of(
    fingerprint: Fingerprint,
    answer: QueryAnswer,
    audit: Iterable[Unusual],
    *,
    licence: Iterable[str],
    digest: str,
    from_weights: bool,
    notes: Iterable[str] = (),
    further: Iterable[Relative] = (),
) -> Measured:
    """A submission's answer, and what is known of `further` models, reduced to what decisions need."""
    sizes, about, examined = informative_sizes(fingerprint), fingerprint.about, answer.examined
    total = sum(sizes.values()) or 1
    assert examined is not None
    return Measured(
        level=about.level,
        key=about.key,
        parameters=about.parameters,
        coverage=about.coverage,
        shares={name: round(size / total, 4) for name, size in sorted(sizes.items())},
        uncompared=examined.parts_without_counterpart,
        verdict=answer.verdict,
        examined_share=examined.share,
        models=examined.models,
        same_lengths=examined.same_lengths,
        kin=tuple(row for one in (*answer.relatives, *further) for row in kinships(one, examined.models)),
        started=tuple(one.model for one in answer.relatives if one.relation == COMMON_START),
        bases=tuple(Said(one.value, one.model, one.verdict, one.source) for one in answer.claims if one.kind in DECLARING),
        licence=tuple(licence),
        audit=tuple((one.code, one.sentence) for one in audit),
        from_weights=from_weights,
        is_change=is_change(fingerprint),
        digest=digest,
        notes=tuple(notes),
    )


def kinships(relative: Relative, searched: int) -> list[Kinship]:
    """A row for each component that shows descent; none of a relative that shows none, or whose relation is only declared."""
    if relative.declared or not is_descent(relative):
        return []
    p_value = SMALLEST_P if relative.p_value is None else relative.p_value
    told = [one for one in relative.components if one.relation not in DESCENT_FREE]
    rows = [
        Kinship(
            relative=relative.model,
            component=one.query,
            relative_component=one.relative,
            relation=one.relation,
            whole=relative.relation,
            family=_family(one),
            p_value=p_value,
            searched=max(searched, 1),
            shared=one.shared,
            apart=_apart(one),
        )
        for one in told
    ]
    if rows:
        return rows
    part = next((part for part in relative.parts if part.relation not in (None, *DESCENT_FREE)), None)
    names = (part.name, part.relative or part.name) if part is not None else (ANY, ANY)
    return [Kinship(relative.model, *names, relative.relation, relative.relation, None, p_value, max(searched, 1), relative.shared, 0.0)]


def started(relative: Relative) -> dict[str, float]:
    """Components with a common start only, with the mean of 1 - r over their informative families."""
    return {one.query: _mean_apart(one, inherited=False) for one in relative.components if one.relation == COMMON_START}


def _family(component: ComponentEvidence) -> str | None:
    """The informative family that agrees most."""
    found = [one for one in component.families if one.informative and one.inherited and one.r is not None]
    return max(found, key=lambda one: (one.r or 0.0, one.parameters, one.family)).family if found else None


def _apart(component: ComponentEvidence) -> float:
    """Mean of 1 - r over inherited informative families, weighed by their parameters; 0 where digests alone tell."""
    return _mean_apart(component, inherited=True)


def _mean_apart(component: ComponentEvidence, *, inherited: bool) -> float:
    told = [one for one in component.families if one.informative and (one.inherited or not inherited)]
    found = [(1.0 - one.r, one.parameters) for one in told if one.r is not None]
    total = sum(weight for _, weight in found)
    return round(max(0.0, sum(value * weight for value, weight in found) / total), 6) if total else 0.0
