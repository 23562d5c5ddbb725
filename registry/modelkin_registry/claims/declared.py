"""What a model's folder says of its descent, held against what the weights show. Claims change no number and no relation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelkin_indexer.results.beside import LINEAGE_KINDS, Claim
from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import DESCENT_FREE

Aliases = Sequence[Mapping[str, str]]  # every present and former name -> the present one; whose names are meant first comes first
VERDICTS = {
    "consistent": "the weights are consistent with that ({relation})",
    "nothing": "the weights show nothing of it ({relation})",
    "not comparable": "the weights cannot be compared with it",
    "not measurable": "its shapes fit, but an adapter holds no weights of its base, so nothing can be measured",
    "not registered": "no registered model has that name, so nothing can be said",
}


def registered_as(value: str, aliases: Aliases) -> str | None:
    """The registered model that a claim names, if it is one only.

    `org/name` and `name` may be one model; `org/name` and `other/name` may not.
    """
    return next((model for names in aliases if (model := _among(value, names)) is not None), None)


def _among(value: str, aliases: Mapping[str, str]) -> str | None:
    if value in aliases:
        return aliases[value]
    owner, name = _split(value)
    found = {now for known, now in aliases.items() if _split(known)[1] == name and (not owner or _split(known)[0] in ("", owner))}
    return found.pop() if len(found) == 1 else None


def same_name(value: str, other: str) -> bool:
    """Whether a claimed value and a name may mean one model: their last parts are the same, and owners where both have one."""
    (owner, name), (other_owner, other_name) = _split(value), _split(other)
    return name == other_name and (not owner or not other_owner or owner == other_owner)


def _split(name: str) -> tuple[str, str]:
    """(owner, name) in lower case; of a path or address its last part alone, without a revision."""
    parts = [part for part in name.casefold().replace("\\", "/").split("@")[0].split("/") if part]
    is_hub_id = len(parts) == 2 and not name.startswith(("/", ".", "~"))
    return (parts[0] if is_hub_id else ""), (parts[-1] if parts else "")


def texts_in(claims: Iterable[Claim]) -> Sequence[str] | None:
    """A text for each claim of descent that every name has in it which the claim may mean; none of them without such claims.

    None where that cannot be said: letters outside ASCII are other letters to a store than to `registered_as`.
    """
    texts = {_split(claim.value)[1] for claim in claims if claim.kind in LINEAGE_KINDS}
    return sorted(texts) if all(text and text.isascii() for text in texts) else None


def lineage_claims(claims: Iterable[Claim], aliases: Aliases) -> list[tuple[Claim, str | None]]:
    """The claims that name another model, each with the registered one it means."""
    return [(claim, registered_as(claim.value, aliases)) for claim in claims if claim.kind in LINEAGE_KINDS]


def weigh(claims: Sequence[tuple[Claim, str | None]], relatives: Iterable[Relative]) -> tuple[WeighedClaim, ...]:
    """Each claim with what the weights show of the model it names. A local path that names no registered model is not told."""
    by_name = {relative.model: relative for relative in relatives}
    weighed = []
    for claim, model in claims:
        if model is None and claim.kind == "name_or_path":
            continue
        relative = by_name.get(model or "")
        relation = relative.relation if relative else None
        verdict = "not measurable" if relative and relative.declared else verdict_on(model, relation)
        weighed.append(WeighedClaim(claim.kind, claim.value, claim.source, model, relation, verdict))
    return tuple(weighed)


def verdict_on(model: str | None, relation: str | None) -> str:
    """One of VERDICTS' keys."""
    if model is None or relation is None:
        return "not registered"
    if relation == "not comparable":
        return relation
    return "nothing" if relation in DESCENT_FREE else "consistent"


def claim_sentence(claim: WeighedClaim) -> str:
    """`README.md says base_model 'org/x': the weights are consistent with that (fine-tuned).`"""
    meant = f" (registered as {claim.model!r})" if claim.model not in (None, claim.value) else ""
    said = VERDICTS[claim.verdict].format(relation=claim.relation)
    return f"{claim.source} says {claim.kind} {claim.value!r}{meant}: {said}."
