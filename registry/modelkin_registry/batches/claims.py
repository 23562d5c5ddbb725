"""The claims of all registered models beside what the weights show of them: the pairs that they name are looked at all at once."""

from __future__ import annotations

from modelkin_registry.answers.claims import WeighedClaim
from modelkin_registry.batches.registered import relations
from modelkin_registry.claims.declared import lineage_claims, verdict_on
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.search.known import Known
from modelkin_registry.store.protocol import Store


def weighed_claims(known: Known[Store], judge: Judge) -> dict[str, tuple[WeighedClaim, ...]]:
    """Of every model that names another registered one, what the weights show of each claim; by its name."""
    store = known.store
    numbers = {name: number for number, name in store.names_of(store.numbers(current=True)).items()}
    aliases = store.claims.aliases()
    said = {name: lineage_claims(claims, aliases) for name, claims in store.claims.current().items() if name in numbers}
    said = {name: [(claim, model) for claim, model in found if model != name] for name, found in said.items()}
    said = {name: found for name, found in said.items() if any(model in numbers for _, model in found)}
    pairs = {(numbers[name], numbers[model]): (name, model) for name, found in said.items() for _, model in found if model in numbers}
    told = {pairs[pair]: relation for pair, relation in relations(known, sorted(pairs, key=lambda pair: pair[::-1]), judge)}
    weighed = {}
    for name, found in said.items():
        shown = [(claim, model, told.get((name, model or ""))) for claim, model in found if model or claim.kind != "name_or_path"]
        weighed[name] = tuple(
            WeighedClaim(claim.kind, claim.value, claim.source, model, relation, verdict_on(model, relation))
            for claim, model, relation in shown
        )
    return weighed
