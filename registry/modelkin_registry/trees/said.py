"""What is said of registered models beside their weights, and how it is told beside a tree."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from modelkin_indexer.results.beside import Claim
from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.claims.declared import texts_in
from modelkin_registry.store.protocol import Store
from modelkin_registry.trees.directions import Beside
from modelkin_registry.trees.pairs.measurer import Measurer

FEW = 1024  # models of which what is said is read one by one
SAID = {
    "consistent": "weights are consistent with it",
    "not registered": "which is not registered",
    "not comparable": "which cannot be compared",
}


def beside(measurer: Measurer, groups: Mapping[str, Sequence[str]]) -> Beside:
    """What is known of each group of copies as of one model."""
    store, head = measurer.known.store, {name: first for first, same in groups.items() for name in same}
    claims, added = _said(store, measurer, head)
    of_groups = {first: [claim for name in same for claim in claims.get(name, ())] for first, same in groups.items()}
    texts = texts_in(claim for said in of_groups.values() for claim in said)
    known = [{}, {}] if texts == [] else store.claims.aliases(texts or ())
    aliases = [{name: head.get(now, now) for name, now in names.items()} for names in known]
    return Beside(of_groups, added, aliases)


def _said(store: Store, measurer: Measurer, names: Collection[str]) -> tuple[dict[str, list[Claim]], dict[str, str]]:
    """What is said of these models now, and when they came."""
    if len(names) > FEW:
        return store.claims.current(), {model.model: model.added for model in store.listed()}
    models = store.models_of(measurer.ids[name] for name in names)
    claims = {
        name: [
            Claim(one["kind"], one["value"], one["source"]) for one in store.claims.of_model(models[measurer.ids[name]]) if one["current"]
        ]
        for name in names
    }
    return claims, {line.model: line.added for line in store.lines([measurer.ids[name] for name in names])}


def summary(claims: Sequence[WeighedClaim], parents: Sequence[str]) -> str:
    """`claims X, weights show Y`; "" where nothing is said of a model without parents."""
    shown = ", ".join(parents) or "nothing"
    if not claims:
        return "claims none" if parents else ""
    parts = []
    for claim in claims:
        words = f"weights show {shown}" if claim.verdict == "nothing" else SAID[claim.verdict]
        if claim.verdict == "consistent" and parents and claim.model not in parents:
            words += f", {shown} is nearer"
        parts.append(f"claims {claim.value}, {words}")
    return "; ".join(dict.fromkeys(parts))
