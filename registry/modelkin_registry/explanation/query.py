"""Answers put together: what was asked, what was found, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelkin_registry.answers.asked import QueryAnswer, Searched
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.answers.sides import describe, tables_alone, warnings_about
from modelkin_registry.claims.declared import claim_sentence
from modelkin_registry.explanation.parts import forgeable, no_weights, nothing_found
from modelkin_registry.explanation.relatives import DISTILLATION, headline, relative_sentences, untrained_sentences
from modelkin_registry.explanation.verdict import verdict
from modelkin_registry.merging.by_layer import attribute_layers, layer_merge
from modelkin_registry.merging.words import layer_object, mark_parents, merge_object, merge_sentences

if TYPE_CHECKING:
    from modelkin_indexer.results.fingerprint import Fingerprint
    from modelkin_registry.answers.claims import Contradiction, WeighedClaim
    from modelkin_registry.answers.evidence import Relative
    from modelkin_registry.answers.parts import Examined
    from modelkin_registry.merging.decomposition import Decomposition

MENTIONED = 3  # relatives that have a sentence, the first one all of its findings; the table has the rest


def query_answer(
    fingerprint: Fingerprint,
    relatives: Sequence[Relative],
    *,
    source: str,
    registry: Searched,
    examined: Examined,
    merge: Decomposition | None,
    claims: Sequence[WeighedClaim] = (),
    contradictions: Sequence[Contradiction] = (),
) -> QueryAnswer:
    """The whole answer to a query."""
    relatives = attribute_layers(relatives)
    by_layer = None if merge else layer_merge(relatives)
    relatives = mark_parents(relatives, merge)
    subject = Path(source).name or "The model"
    explanation = merge_sentences(subject, merge) if merge else []
    for relative in relatives[:1]:
        explanation += relative_sentences(subject, relative, registry.models) + untrained_sentences(subject, fingerprint, relative)
    explanation += [headline(subject, relative) for relative in relatives[1:MENTIONED]]
    if not any(is_descent(relative) for relative in relatives):
        tables, sampled = tables_alone(fingerprint), fingerprint.about.level == "probe"
        explanation.insert(0, no_weights(subject, tables) if tables else nothing_found(subject, examined, registry.key, sampled=sampled))
    explanation += map(claim_sentence, claims)
    explanation += [one.sentence for one in contradictions]
    explanation.append(DISTILLATION)
    return QueryAnswer(
        query=describe(fingerprint, source),
        registry=registry,
        relatives=tuple(relatives),
        merge=merge_object(merge) if merge else layer_object(by_layer) if by_layer else None,
        explanation=tuple(explanation),
        warnings=(*warnings_about(fingerprint, source), *forgeable(relatives, fingerprint.about)),
        claims=tuple(claims),
        contradictions=tuple(contradictions),
        verdict=verdict(relatives, examined),
        examined=examined,
    )
