"""What a machine may make of an answer: related, nothing found, or not examined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.parts import EXAMINED_SHARE, NOT_EXAMINED, NOTHING_FOUND, RELATED, Examined
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.answers.sides import unread_of
from modelkin_registry.relations.pairs import Kin


def examined_by(query: Fingerprint, kin: Sequence[Kin], searched: int) -> Examined:
    """How much of the query was held against any of the models."""
    relatives = [one.relative for one in kin]
    met = {part.name for relative in relatives for part in relative.parts if part.relation is not None}
    return Examined(
        models=searched,
        models_comparable=sum(relative.compared > 0 for relative in relatives),
        share=max((relative.compared for relative in relatives), default=0.0),
        unread=unread_of(query),
        parts_without_counterpart=tuple(name for name in query.about.components if name not in met),
        doubtful=tuple(sorted({one.model for one in relatives if _is_doubtful(one)})),
        same_lengths=tuple(sorted({one.relative.model for one in kin if one.same_lengths})),
        same_gains=tuple(sorted({one.relative.model for one in kin if one.same_gains})),
        may_be_turned=tuple(sorted({one.relative.model for one in kin if one.may_be_turned and one.relative.compared >= EXAMINED_SHARE})),
    )


def verdict(relatives: Iterable[Relative], examined: Examined) -> str:
    """One of VERDICTS. What a file declares never changes it."""
    if any(is_descent(relative) for relative in relatives):
        return RELATED
    unseen = examined.same_lengths or examined.same_gains or examined.may_be_turned or examined.doubtful
    return NOT_EXAMINED if examined.share < EXAMINED_SHARE or unseen else NOTHING_FOUND


def _is_doubtful(relative: Relative) -> bool:
    """Whether sampled rows contradict each other where nothing else was read that could tell which of them are the model's."""
    families = (family for component in relative.components for family in component.families)
    return relative.sampled and not is_descent(relative) and any(family.informative and family.contradicted for family in families)
