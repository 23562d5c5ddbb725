"""Where claims and weights do not agree, as findings of their own. They change no number and no relation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from modelkin_indexer.results.beside import Claim
from modelkin_registry.answers.claims import Contradiction, WeighedClaim
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import is_descent
from modelkin_registry.claims.declared import same_name

MADE_FROM = ("base_model", "merged_from")  # claims that a model was made from another
# What a declared relation cannot look like in the weights. Other words of publishers (adapter, merge) fit several relations.
CANNOT_BE = {
    "quantized": ("fine-tuned", "continued", "low-rank delta"),
    "finetune": ("identical", "recast"),
    "merge": ("identical", "recast", "quantized"),
}
TECHNICAL = ("config.json",)  # a folder that nobody wrote a word about claims nothing either way
ClaimsOf = Callable[[str], Sequence[Claim]]


def contradictions(
    subject: str, claims: Sequence[Claim], weighed: Sequence[WeighedClaim], relatives: Iterable[Relative], claims_of: ClaimsOf
) -> tuple[Contradiction, ...]:
    """What is claimed and not shown, or shown and not claimed.

    Args:
        subject: the model's name.
        claims: what its folder says; where it says nothing at all, nothing is found missing.
        relatives: best first.
        claims_of: what is said of a registered model: one that names the subject accounts for their kinship.
    """
    nearest = next((one for one in relatives if is_descent(one) and not same_name(one.model, subject)), None)
    found = [_other_relation(claim, one) for claim in claims for one in weighed if claim.kind == "base_model_relation"]
    told = [one for one in found if one is not None]
    accounted = any(one.verdict in ("consistent", "not measurable") for one in weighed)
    if nearest is not None and not accounted and not _names(claims_of(nearest.model), subject):
        told += _about_nearest(claims, weighed, nearest)
    return tuple(dict.fromkeys(told))


def _names(claims: Sequence[Claim], subject: str) -> bool:
    return any(same_name(claim.value, subject) for claim in claims if claim.kind in MADE_FROM)


def _about_nearest(claims: Sequence[Claim], weighed: Sequence[WeighedClaim], nearest: Relative) -> list[Contradiction]:
    """What claims leave out of the nearest relative by descent."""
    made_from = [one for one in weighed if one.kind in MADE_FROM]
    if made_from and all(one.verdict == "nothing" for one in made_from):
        return [_other_base(one, nearest) for one in made_from]
    says_something = any(
        claim.source not in TECHNICAL for claim in claims
    )  # a folder that nobody wrote a word about claims nothing either way
    names_none = not any(claim.kind in MADE_FROM for claim in claims)
    return [_unclaimed(nearest)] if says_something and names_none else []


def _unclaimed(nearest: Relative) -> Contradiction:
    kinship = f"kinship to {nearest.model!r} ({nearest.relation})"
    words = f"Its folder names no model that it was made from; its weights are consistent with {kinship}."
    return Contradiction("claims none", None, None, nearest.model, nearest.relation, f"{words} Weights do not tell which came first.")


def _other_base(claim: WeighedClaim, nearest: Relative) -> Contradiction:
    words = f"{claim.source} says {claim.kind} {claim.value!r}, of which the weights show nothing; they are consistent with kinship to"
    sentence = f"{words} {nearest.model!r} ({nearest.relation}), which it does not name."
    return Contradiction("claims another", claim.value, claim.source, nearest.model, nearest.relation, sentence)


def _other_relation(claim: Claim, weighed: WeighedClaim) -> Contradiction | None:
    """A declared relation to the declared base that its weights do not look like."""
    if weighed.kind != "base_model" or weighed.source != claim.source or weighed.relation not in CANNOT_BE.get(claim.value.casefold(), ()):
        return None
    sentence = f"{claim.source} says {claim.value} of {weighed.value!r}: the weights show {weighed.relation} instead."
    return Contradiction("claims another relation", claim.value, claim.source, weighed.model or "", weighed.relation or "", sentence)
