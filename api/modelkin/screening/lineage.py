"""What a registry knows of its own models, asked again and again while a batch is decided."""

from __future__ import annotations

from functools import cache

from modelkin_indexer.errors import RegistryError
from modelkin_registry.claims.declared import registered_as
from modelkin_registry.questions import Questions
from modelkin_registry.relations.pairs import measure_kin
from modelkin_registry.screening.declared import ANY
from modelkin_registry.screening.measured import kinships, started


class RegistryLineage:
    """Each question is asked of the registry once."""

    def __init__(self, registry: Questions) -> None:
        aliases = registry.store.claims.aliases()
        self.registered = cache(lambda name: registered_as(name, aliases))
        self.kindred = cache(lambda model, base: _kindred(registry, model, base))
        self.licences = cache(lambda model: _licences(registry, model))


def _kindred(registry: Questions, model: str, base: str) -> dict[str, float]:
    if model == base:
        return {ANY: 0.0}
    try:
        kin = measure_kin(registry.get(model), registry.get(base), base, registry.judge(1))
    except RegistryError:
        return {}
    return started(kin.relative) | dict.fromkeys((row.component for row in kinships(kin.relative, 1)), 0.0)


def _licences(registry: Questions, model: str) -> tuple[str, ...]:
    try:
        return tuple(claim.value.casefold() for claim in registry.claims_of(model) if claim.kind == "license")
    except RegistryError:
        return ()
