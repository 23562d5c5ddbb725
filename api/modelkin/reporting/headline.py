"""The answer in a sentence. English has it from the answer itself; other languages say it anew, no stronger than the relation's own row."""

from __future__ import annotations

from pathlib import Path

from modelkin.reporting import figures
from modelkin.reporting.texts import Texts
from modelkin_registry.answers.asked import CompareAnswer, DecomposeAnswer, QueryAnswer
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.parts import NOT_EXAMINED, RELATED
from modelkin_registry.answers.relations import COPIES, RELATIONS, has_evidence
from modelkin_registry.explanation.naming import told_apart


def headline(answer: QueryAnswer | CompareAnswer | DecomposeAnswer, first: Relative | None, say: Texts) -> str:
    """The sentence; `first` is the nearest model of the answer."""
    if say.is_english:
        return answer.explanation[0] if answer.explanation else ""
    subject = subject_of(answer)
    if isinstance(answer, DecomposeAnswer):
        if answer.merge is None:
            return say("special", "no-merge", query=subject)
        return say("special", "merge", query=subject, parents=", ".join(parent.model for parent in answer.merge.parents))
    if isinstance(answer, QueryAnswer) and answer.merge is not None:
        return say("special", "merge", query=subject, parents=", ".join(parent.model for parent in answer.merge.parents))
    if first is None or answer.verdict == NOT_EXAMINED or (answer.verdict != RELATED and not has_evidence(first)):
        return say("special", NOT_EXAMINED if answer.verdict == NOT_EXAMINED else "nothing found", query=subject)
    return _of_relative(subject, first, say)


def _of_relative(subject: str, first: Relative, say: Texts) -> str:
    """One relative. What a copy is told with in other words than its relation's is told so here too."""
    names = {"query": subject, "model": Path(first.model).name if first.model.startswith("/") else first.model}
    special = _special(first)
    said = say("special", special, **names) if special else say("answers", first.relation, **names)
    if not RELATIONS[first.relation].descent or special in ("sampled", "contained", "rounded"):
        return said
    return f"{said} {say('special', 'share', share=figures.share(first.shared))}"


def _special(first: Relative) -> str:
    if first.sampled and first.relation in COPIES:
        return "sampled"
    if first.relation == "quantized" and first.quantization.keys() == {"relative"}:
        return "quantized-relative"
    if first.rounded:
        return "rounded"
    return "contained" if first.extra and first.relation in ("identical", "recast") else ""


def subject_of(answer: QueryAnswer | CompareAnswer | DecomposeAnswer) -> str:
    """What a page calls the model that was asked about."""
    if isinstance(answer, CompareAnswer):
        return told_apart(answer.a.source, answer.b.source)[0]
    return Path(answer.query.source).name or "model"
