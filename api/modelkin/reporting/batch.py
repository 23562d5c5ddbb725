"""What a page shows of a screening: outcomes, each submission, and what was found with its figures."""

from __future__ import annotations

from typing import Any

from modelkin.reporting import figures
from modelkin.reporting.sentences import Sentences
from modelkin.reporting.texts import Texts
from modelkin_registry.screening.results import OUTCOMES, UNREADABLE, Screened, ScreenFinding, Screening


def batch_section(answer: Screening, say: Texts, told_of: Sentences) -> dict[str, Any]:
    """The section of the batch, in words and figures that are ready."""
    counts, of = answer.counts, answer.discovery
    told = {"count": len(answer.results), "read": len(answer.results) - counts[UNREADABLE], "models": answer.models}
    correction = {"tests": figures.count(of.tests), "found": figures.count(of.found), "fell": figures.count(of.fell)}
    return {
        "outcomes": [(say("outcome", name), figures.count(counts[name]), say("outcome-words", name)) for name in OUTCOMES],
        "submissions": [_submission(one, say) for one in answer.results],
        "measured": [_finding(one.submission, found, say) for one in answer.results for found in one.findings],
        "sentences": [(one.submission, told_of.all(said)) for one in answer.results if (said := _sentences(one))],
        "rings": [(ring.members, say("text", "screening-copies" if ring.copies else "screening-kin")) for ring in answer.rings],
        "compared": say("text", "screening-compared", **told),
        "policy": say("text", "screening-policy", policy=answer.policy, digest=answer.policy_digest),
        "correction": say("text", "screening-correction", rate=f"{of.rate:g}", procedure=of.procedure, **correction),
    }


def headline_of(answer: Screening, say: Texts) -> str:
    """How many came to which outcome."""
    return say("text", "screening-headline", count=len(answer.results), **answer.counts)


def _submission(one: Screened, say: Texts) -> tuple[str, ...]:
    declared = ", ".join(one.declared_base or ()) or figures.NOTHING
    rules = list(dict.fromkeys(say("rule", found.rule) for found in one.findings))
    return (
        one.submission,
        say("outcome", one.outcome),
        "; ".join(rules) or figures.NOTHING,
        declared,
        _share(one.examined_share),
        _share(one.coverage),
    )


def _finding(submission: str, found: ScreenFinding, say: Texts) -> tuple[str, ...]:
    relative = found.relative or figures.NOTHING
    if found.others:
        relative = f"{relative} {say('text', 'screening-others', count=len(found.others))}"
    return (
        submission,
        say("rule", found.rule),
        say("action", found.action),
        relative,
        say.known("relation", found.relation) if found.relation else figures.NOTHING,
        found.component or figures.NOTHING,
        found.family or figures.NOTHING,
        figures.probability(found.p_value),
        figures.probability(found.q_value),
    )


def _sentences(one: Screened) -> list[str]:
    """What was found of it, in words; of what could not be read why."""
    return [found.sentence for found in one.findings] or ([one.reason] if one.reason else [])


def _share(part: float | None) -> str:
    return figures.NOTHING if part is None else figures.share(part)
