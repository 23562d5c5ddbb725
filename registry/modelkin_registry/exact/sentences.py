"""An exact comparison in sentences: matrices first, then what the difference is, norms apart, then what was not compared."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from modelkin_registry.answers.asked import CompareAnswer
from modelkin_registry.answers.exact import ExactAnswer, ExactRow, ExactSummary, GroupFigures, Preservation, Strangers
from modelkin_registry.answers.relations import BLIND, DESCENT_FREE
from modelkin_registry.evidence.nulls import SMALLEST_P
from modelkin_registry.exact.judging import MEASURES
from modelkin_registry.exact.preservation import KEPT, selective_preservation

LEFT_OVER = 2.0  # energy of a difference beside its low-rank part, in units of rounding, up to which it is low-rank and nothing else
WITHOUT_REST = 1e-6  # the same as a share of all, where weights are stored so finely that rounding leaves nothing
LOW_RANK_SHARE = 4  # a rank is low up to 1/4 of the shorter side
NAMED = 3  # examples in a sentence
# Measures that near-equal values of strangers make look alike; the rest needs matrices
TOLD = {
    "cv_difference": "coefficients of variation",
    "kolmogorov": "distribution functions (KS)",
    "mean_abs_difference": "mean absolute differences",
}


def exact_sentences(answer: ExactAnswer, tests: Sequence[Preservation], *, descends: bool) -> list[str]:
    """What was found number by number, the most important first. `descends`: the fingerprints show descent, not a common start alone."""
    if not answer.rows:
        return ["Number by number nothing could be compared: no tensor of A was found in B in its shape, by name or by what it holds."]
    informative = [f for f in answer.families if f.informative]
    sentences = [_headline(answer, informative, descends)]
    sentences += [s for f in informative if (s := _family_sentence(f))]
    sentences += _difference_sentences(answer.rows)
    sentences += [test.sentence for test in tests]
    sentences += _measure_sentence(answer)
    return sentences + _left_out(answer)


def _headline(answer: ExactAnswer, informative: Sequence[GroupFigures], descends: bool) -> str:
    kept = [f for f in informative if f.finding in KEPT]
    count = f"{len(answer.rows)} tensors, {sum(row.n for row in answer.rows):,} numbers"
    if not informative:
        return f"Number by number ({count}): only low-information tensors could be compared, which show no descent."
    if not kept:
        return f"Number by number ({count}): no evidence of shared weights; {_listed(informative)}."
    if descends:
        return f"Number by number ({count}): {_listed(kept)} agree beyond anything that strangers show."
    return (
        f"Number by number ({count}): {_listed(kept)} agree beyond chance. What two models began from (a public seed, a published table) "
        "shows so too where training left it, so that this alone is no evidence of descent."
    )


def _listed(families: Sequence[GroupFigures]) -> str:
    return ", ".join(f"{_name(f)} r {_r(f)}" for f in families)


def _name(family: GroupFigures) -> str:
    return family.family if family.component == "text" else f"{family.component} {family.family}"


def _r(family: GroupFigures) -> str:
    return "-" if family.pearson is None else f"{family.pearson.mean:.4f} ± {family.pearson.sd:.4f}"


def _family_sentence(family: GroupFigures) -> str:
    if family.finding == "partly shared":
        return f"Of {family.tensors} tensors in {_name(family)}, {family.shared} stand out{_p(family)}; the others show nothing."
    if family.finding == "faint":
        agrees = f"{_name(family).capitalize()} agrees beyond chance{_p(family)}"
        return f"{agrees} but no further (r {_r(family)}) than strangers are known to: no finding."
    return ""


def _p(family: GroupFigures) -> str:
    if family.p_value is None:
        return ""
    return f" (p below {SMALLEST_P:.0e})" if family.p_value <= SMALLEST_P else f" (p {family.p_value:.1g})"


def _difference_sentences(rows: Sequence[ExactRow]) -> list[str]:
    """What B - A is, where the two are close: nothing, a change of type, of low rank, or dense."""
    rows = [row for row in rows if row.pearson is not None]  # constants are alike everywhere
    equal = [row for row in rows if row.equal_fraction == 1]
    recast = [row for row in rows if row.equal_fraction < 1 and row.half_unit_fraction == 1]
    ranks = sorted(row.delta.rank for row in rows if row.delta is not None and is_low_rank(row) and row not in recast)
    sentences = []
    if equal:
        sentences.append(f"{len(equal)} of {len(rows)} tensors are equal bit by bit.")
    if recast:
        sentences.append(f"{len(recast)} of {len(rows)} tensors differ by no more than half a unit of the coarser type: a change of type.")
    if ranks:
        span = f"rank {ranks[0]}" if ranks[0] == ranks[-1] else f"rank {ranks[0]} to {ranks[-1]}"
        sentences.append(f"In {len(ranks)} of {len(rows)} tensors B - A has {span} up to rounding, as a merged adapter makes it.")
    return sentences


def is_low_rank(row: ExactRow) -> bool:
    """Whether the difference of a pair is of low rank and, but for rounding, nothing else."""
    delta = row.delta
    if delta is None or delta.saturated or not 0 < delta.rank <= min(delta.rows, delta.columns) // LOW_RANK_SHARE:
        return False
    rounded = delta.left_over_rounding is not None and delta.left_over_rounding <= LEFT_OVER
    return bool(rounded or 1 - delta.captured <= WITHOUT_REST)


def _measure_sentence(answer: ExactAnswer) -> list[str]:
    """Scalars that say nothing by themselves, beside the strangers'."""
    norms = [f for f in answer.roles if f.family == "norm" and f.finding not in KEPT and f.strangers]
    if not norms:
        return []
    parts = [text for name, words in TOLD.items() if (text := _beside(norms[0], name, words))]
    where = f"of {norms[0].role} norms"
    return [f"Closeness that is no evidence, {where}: {'; '.join(parts)}."] if parts else []


def _beside(group: GroupFigures, name: str, words: str) -> str:
    ours = group.measures[name]
    others = [f"{s.name} {_mean(s, name)}" for s in group.strangers if s.measures[name] is not None]
    return f"{words} {ours.mean:.3g} ({', '.join(others)})" if ours is not None and others else ""


def _mean(strangers: Strangers, name: str) -> str:
    assert name in MEASURES
    found = strangers.measures[name]
    return "-" if found is None else f"{found.mean:.3g}"


def _left_out(answer: ExactAnswer) -> list[str]:
    if not answer.not_compared:
        return []
    named = "; ".join(f"{left.tensor}: {left.reason}" for left in answer.not_compared[:NAMED])
    more = "; ..." if len(answer.not_compared) > NAMED else ""
    return [f"{len(answer.not_compared)} places were not compared ({named}{more})."]


def with_exact(answer: CompareAnswer, exact: ExactAnswer) -> CompareAnswer:
    """A comparison of fingerprints with what an exact one adds. The headline stays first unless the exact one saw what it did not."""
    tests = selective_preservation(exact.families)
    headline, *rest = answer.explanation
    sentences = exact_sentences(exact, tests, descends=answer.relation not in DESCENT_FREE)
    missed = answer.relation in BLIND and any(f.informative and f.finding in KEPT for f in exact.families)
    told = [sentences[0], headline, *sentences[1:]] if missed else [headline, *sentences]
    summary = ExactSummary(exact.families, exact.roles, tuple(tests), exact.not_compared, exact.matrices)
    return replace(answer, exact=exact.rows, exact_summary=summary, explanation=(*told, *rest))
