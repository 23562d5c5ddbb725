"""An adapter's declared base as an answer: said by the adapter's file and borne out by shapes, never by weights, which it does not hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from modelkin_indexer.results.beside import Claim
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.answers.evidence import Relative
from modelkin_registry.answers.relations import has_evidence
from modelkin_registry.answers.sides import is_change
from modelkin_registry.relations.pairs import Kin

ADAPTER_CONFIG = "adapter_config.json"
DECLARED = "declared"


def base_claims(fingerprint: Fingerprint, claims: Sequence[Claim]) -> Sequence[Claim]:
    """The claims, with the base that an adapter's fingerprint declares where no file is at hand to say so."""
    base = str((fingerprint.about.adapter or {}).get("base", ""))
    if not base or any(claim.kind == "base_model" for claim in claims):
        return claims
    return [*claims, Claim("base_model", base, ADAPTER_CONFIG)]


def with_declared_base(
    ordered: Sequence[Relative],
    fingerprint: Fingerprint,
    declared: Iterable[tuple[Claim, str | None]],
    kin: Iterable[Kin],
    get: Callable[[str], Fingerprint],
    k: int,
) -> list[Relative]:
    """The relatives, and behind those with evidence the registered base that an adapter declares, if its shapes fit; k at most."""
    measured = [relative for relative in ordered if has_evidence(relative)]
    if not is_change(fingerprint):
        return list(ordered)
    by_name = {one.relative.model: one.relative for one in kin}
    names = {model: None for claim, model in declared if claim.kind == "base_model" and model}
    found = [
        _declared(by_name[name])
        for name in names
        if name in by_name and not any(name == relative.model for relative in measured) and fits(fingerprint, get(name))
    ]
    rest = [relative for relative in ordered if not has_evidence(relative) and relative.model not in {one.model for one in found}]
    return [*measured, *found, *rest][:k]


def fits(adapter: Fingerprint, base: Fingerprint) -> bool:
    """Whether the base has every matrix that the adapter changes, in the same shape."""
    sizes = [
        {place: (int(rows), int(columns)) for place, rows, columns in zip(m.places, m.rows, m.columns, strict=True)}
        for m in (adapter.matrices, base.matrices)
    ]
    return bool(sizes[0]) and sizes[0].items() <= sizes[1].items()


def _declared(relative: Relative) -> Relative:
    """The base as an answer: its families as they were measured, none of them inherited."""
    components = tuple(
        replace(component, relation=DECLARED, shared=0.0, families=tuple(replace(f, inherited=False) for f in component.families))
        for component in relative.components
    )
    return replace(relative, relation=DECLARED, also=(), shared=0.0, p_value=None, components=components, declared=True)
