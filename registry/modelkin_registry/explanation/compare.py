"""Two models held against each other, with controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from modelkin_indexer.errors import FingerprintError
from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.evidence import Control, FamilyEvidence, Relative
from modelkin_registry.answers.sides import describe, is_change, warnings_about
from modelkin_registry.claims.adapters import base_claims, fits
from modelkin_registry.claims.declared import claim_sentence, lineage_claims, weigh
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.explanation.naming import told_apart
from modelkin_registry.explanation.parts import avoidable, forgeable, unseen_sentence
from modelkin_registry.explanation.relatives import DISTILLATION, compared_sentences, control_sentences
from modelkin_registry.explanation.verdict import examined_by, verdict
from modelkin_registry.relations.pairs import hold, measure_kin


def compare_fingerprints(
    a: Fingerprint,
    b: Fingerprint,
    *,
    a_name: str,
    b_name: str,
    controls: Mapping[str, Fingerprint],
    judge: Judge,
    claims: Mapping[str, Sequence[Claim]] | None = None,
    tensors: bool = False,
) -> CompareAnswer:
    """What A shows of B, and what third models show of both. Raises FingerprintError if they were made with different keys.

    `claims` are what the folders of A and B say, by their names here; those that name the other one are told beside what the weights show.
    `tensors` lists every tensor of A with its counterpart in B.
    """
    for name, side in {b_name: b, **controls}.items():
        if side.about.key != a.about.key:
            raise FingerprintError(f"{a_name} was made with key {a.about.key!r}, {name} with {side.about.key!r}. Index both with one key.")
    held = hold(a, b, b_name, judge)
    kin = held.kin()
    relative, examined = replace(kin.relative, counterparts=held.counterparts(tensors=tensors)), examined_by(a, [kin], 1)
    subject, other = told_apart(a_name, b_name)
    named = replace(relative, model=other)
    unseen = unseen_sentence(subject, examined_by(a, [replace(kin, relative=named)], 1))
    compared = tuple(Control(name, _families(a, third, judge), _families(b, third, judge)) for name, third in sorted(controls.items()))
    weighed, found = _claimed(relative, {a_name: a, b_name: b}, claims or {}), verdict([relative], examined)
    key = (*forgeable([relative], a.about), *avoidable(found, a.about))
    return CompareAnswer(
        a=describe(a, a_name),
        b=describe(b, b_name),
        relation=relative.relation,
        also=relative.also,
        shared=relative.shared,
        p_value=relative.p_value,
        components=relative.components,
        controls=compared,
        explanation=(
            *([unseen] if unseen else []),
            *compared_sentences(subject, a, named, b),
            *control_sentences(subject, named, compared),
            *map(claim_sentence, weighed),
            DISTILLATION,
        ),
        warnings=(*warnings_about(a, a_name), *warnings_about(b, b_name), *key),
        claims=weighed,
        verdict=found,
        examined=examined,
        compared=relative.compared,
        shared_of_all=relative.shared_of_all,
        parts=relative.parts,
        alternatives=relative.alternatives,
        counterparts=relative.counterparts,
        extra=relative.extra,
        rounded=relative.rounded,
        lone=relative.lone,
    )


def _claimed(relative: Relative, sides: Mapping[str, Fingerprint], claims: Mapping[str, Sequence[Claim]]) -> tuple[WeighedClaim, ...]:
    """What either side's folder says of the other. Who else it names is not looked up: a comparison has no registry at hand."""
    found: list[WeighedClaim] = []
    names = list(sides)
    for one, other in zip(names, reversed(names), strict=True):
        said = lineage_claims(base_claims(sides[one], claims.get(one, ())), [{other: other, Path(other).name: other}])
        shown = replace(relative, model=other)
        if is_change(sides[one]):  # an adapter holds nothing of its base: shapes alone can bear out what it says
            shown = replace(shown, declared=fits(sides[one], sides[other]), relation="not comparable")
        weighed = weigh([(claim, model) for claim, model in said if model], [shown])
        found += [replace(claim, source=f"{Path(one).name}'s {claim.source}") for claim in weighed]
    return tuple(found)


def _families(side: Fingerprint, control: Fingerprint, judge: Judge) -> tuple[FamilyEvidence, ...]:
    relative = measure_kin(side, control, "control", judge).relative
    return tuple(family for component in relative.components for family in component.families)
