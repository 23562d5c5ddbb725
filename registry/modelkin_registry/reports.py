"""Answers put together: what was asked, what was found, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelkin_indexer.fingerprint import UNDECODED, Fingerprint
from modelkin_registry.adapters import is_change
from modelkin_registry.answers import Contradiction, QueryAnswer, Relative, WeighedClaim
from modelkin_registry.declared import claim_sentence
from modelkin_registry.explanation import DISTILLATION, headline, relative_sentences
from modelkin_registry.kinship import is_descent
from modelkin_registry.merging.by_layer import attribute_layers, layer_merge
from modelkin_registry.merging.decomposition import Decomposition
from modelkin_registry.merging.words import layer_object, mark_parents, merge_object, merge_sentences
from modelkin_registry.relations import COVERAGE_FLOOR

MENTIONED = 3  # relatives that have a sentence, the first one all of its findings; the table has the rest
COVERAGE_WARNED = 0.95  # below this share of placed bytes the reader is told
GUESSED_WARNED = 0.05  # from this share of guessed places the reader is told
GUESSED = (
    "the places of {share:.0%} of the bytes are guessed from shapes alone: what is said of a family there holds for the weights compared, "
    "but their family may be another."
)


def describe(fingerprint: Fingerprint, source: str) -> dict[str, Any]:
    """The contract's small object about one side."""
    about = fingerprint.about
    return {
        "source": source,
        "level": about.level,
        "parameters": about.parameters,
        "coverage": about.coverage,
        "components": list(about.components),
        "guessed": about.guessed,
        "unplaced": list(about.unplaced),
        "bytes_total": about.bytes_total,
        "bytes_read": about.bytes_read,
    }


def query_answer(
    fingerprint: Fingerprint,
    relatives: Sequence[Relative],
    *,
    source: str,
    registry: dict[str, Any],
    compared: int,
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
        explanation += relative_sentences(subject, relative, registry["models"])
    explanation += [headline(subject, relative, registry["models"]) for relative in relatives[1:MENTIONED]]
    if not any(is_descent(relative) for relative in relatives):
        explanation.insert(0, _nothing_found(subject, fingerprint.about.coverage, registry["models"], compared))
    explanation += map(claim_sentence, claims)
    explanation += [one.sentence for one in contradictions]
    explanation.append(DISTILLATION)
    return QueryAnswer(
        query=describe(fingerprint, source),
        registry=registry,
        relatives=tuple(relatives),
        merge=merge_object(merge) if merge else layer_object(by_layer) if by_layer else None,
        explanation=tuple(explanation),
        warnings=warnings_about(fingerprint, source),
        claims=tuple(claims),
        contradictions=tuple(contradictions),
    )


def _nothing_found(subject: str, coverage: float, searched: int, compared: int) -> str:
    """That nothing was found; of a model that is not understood, that nothing could be."""
    if coverage < COVERAGE_FLOOR:
        return f"{subject} could not be compared: {coverage:.0%} of its bytes have a known place, too few to call it related or unrelated."
    where = f"among {searched} registered models ({compared} held against it closely)"
    return f"No relative by descent was found for {subject} {where}."


def warnings_about(fingerprint: Fingerprint, source: str) -> tuple[str, ...]:
    """What a reader must know of one side before believing an answer."""
    about = fingerprint.about
    found = []
    if about.level == "probe":
        share = about.bytes_read / about.bytes_total if about.bytes_total else 0.0
        unseen = "rows outside the sample, and copies in other coordinates, are seen at level full only"
        found.append(f"{source}: {share:.1%} of the bytes were read (level probe); {unseen}.")
    if about.coverage < COVERAGE_WARNED:
        names = ", ".join(about.unplaced[:3]) + (", ..." if len(about.unplaced) > 3 else "")
        found.append(f"{source}: only {about.coverage:.0%} of the bytes are understood, and nothing here speaks of the rest: {names}.")
    if about.guessed >= GUESSED_WARNED:
        found.append(f"{source}: {GUESSED.format(share=about.guessed)}")
    if is_change(fingerprint):
        found.append(f"{source}: an adapter without its base; its vectors are those of the changes. To see the sum, give --adapter-base.")
    if about.quantization:
        rest = "what is packed is left out" if about.quantization.endswith(UNDECODED) else "its values are rounded"
        found.append(f"{source}: stored quantised ({about.quantization}): {rest}, so sizes of differences are rough.")
    return tuple(found)
