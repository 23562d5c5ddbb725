"""Selective preservation, tested: were norms kept while attention, MLP and experts were not, or are these norms what strangers have?

The claim of the 2026 dispute rested on raw cosines of gains near 1. Such a cosine follows from means and spreads alone (its floor), so it
is the same between strangers, and the same after shuffling. What is tested instead is whether the *pattern* of the gains returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from modelkin_registry.answers.exact import GroupFigures, Preservation

KEPT = ("identical", "shared", "partly shared")
TESTED = ("attention", "mlp", "expert", "router", "ssm", "conv")  # what the norms belong to
NEAR_FLOOR = 0.02  # a raw cosine this close to its floor is explained by it; published strangers: 0.001 to 0.012


def selective_preservation(families: Sequence[GroupFigures]) -> list[Preservation]:
    """The test for each component that has norms."""
    return [_tested(f, [g for g in families if g.component == f.component and g.family in TESTED]) for f in families if f.family == "norm"]


def _tested(norm: GroupFigures, others: Sequence[GroupFigures]) -> Preservation:
    kept = tuple(g.family for g in others if g.finding in KEPT)
    lost = tuple(g.family for g in others if g.finding not in KEPT)
    outcome = _outcome(norm, kept, lost)
    return Preservation(
        component=norm.component,
        outcome=outcome,
        norm_cosine=norm.cosine.mean if norm.cosine else None,
        norm_floor=norm.cosine_floor.mean if norm.cosine_floor else None,
        norm_pearson=norm.pearson.mean if norm.pearson else None,
        norm_p_value=norm.p_value,
        kept=kept,
        not_kept=lost,
        sentence=f"Norms of the {norm.component} component: {_figures(norm)} {_answer(outcome, kept, lost)}",
    )


def _outcome(norm: GroupFigures, kept: Sequence[str], lost: Sequence[str]) -> str:
    if norm.pearson is None or not (kept or lost):
        return "not comparable"
    if norm.finding in KEPT:
        return "selective" if lost and not kept else "all kept" if not lost else "partly kept"
    return "matrices only" if kept else "strangers"


def _answer(outcome: str, kept: Sequence[str], lost: Sequence[str]) -> str:
    if outcome == "selective":
        what = "norms were kept and nothing else, which says nothing of other weights"
        return f"Their pattern returns, that of {_listed(lost)} does not: {what}."
    if outcome == "all kept":
        return "Their pattern returns, as that of the matrices does: nothing selective."
    if outcome == "partly kept":
        return f"Their pattern returns, with {_listed(kept)}, but not with {_listed(lost)}."
    if outcome == "matrices only":
        return f"Their pattern does not return, though {_listed(kept)} are shared."
    if outcome == "strangers":
        return "These norms are what strangers have: no evidence of selective preservation."
    return "They vary too little to be compared."


def _figures(norm: GroupFigures) -> str:
    if norm.cosine is None or norm.cosine_floor is None:
        return "no figures."
    if norm.pearson is None:
        return f"raw cosine {norm.cosine.mean:.3f}, as all constants have."
    explained = norm.finding not in KEPT and abs(norm.cosine.mean - norm.cosine_floor.mean) <= NEAR_FLOOR
    floor = (
        f"two unrelated vectors with these means and spreads give {norm.cosine_floor.mean:.3f}{', which explains it' if explained else ''}"
    )
    others = "; ".join(
        f"{s.name}: raw {s.cosine.mean:.3f}, centred {s.pearson.mean:.3f}"
        for s in norm.strangers
        if s.cosine is not None and s.pearson is not None
    )
    p = f", p {norm.p_value:.1g}" if norm.p_value is not None else ""
    centred = f"centred they correlate {norm.pearson.mean:.3f} ± {norm.pearson.sd:.3f}{p}"
    return f"raw cosine {norm.cosine.mean:.3f}, but {floor}; {centred}{f' ({others})' if others else ''}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
