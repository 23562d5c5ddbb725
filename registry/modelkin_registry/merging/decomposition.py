"""A model taken apart into registered ones: the answer to "what is in this merge, and in what proportion?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.places import NO_LAYER, Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.merging.fit import Fit, fit, left_by_place
from modelkin_registry.merging.judging import EXACT_RATIO, Verdict, judge, rounding
from modelkin_registry.merging.search import parent_sets
from modelkin_registry.merging.slerp import slerp_fit
from modelkin_registry.merging.table import Table, able, table_of_matrices, table_of_vectors

Floats = npt.NDArray[np.float64]
GROUNDS = ("exact", "between", "even", "elected")  # best founded first
COPY_RATIO = 2.0  # a model this near to one registered model, in roundings of its numbers, is that model and no merge
ALIKE = 0.2  # parents nearer to each other than this share of their change from the base (cosine 0.98) are hardly told apart
CHANGING = 4.0  # squares left by one set of weights / by weights of each place from which weights change over the model


class Parent(Struct, frozen=True):
    """One parent's weight (all sum to 1; the base's is what the others leave) and its standard error."""

    model: str
    weight: float
    sd: float


class Part(Struct, frozen=True):
    """Weights of the parents, in their order, in one part of the model."""

    part: str
    component: str
    layer: int | None
    weights: tuple[float, ...]
    sds: tuple[float, ...]
    residual: float


class Decomposition(Struct, frozen=True):
    """Parents with weights, and what they leave.

    method      "linear", "slerp", "task arithmetic", "gradient" (weights change over the model), "sparsified" or "sign election";
                "" if this is no merge
    residual    length left unexplained / the query's length; rounding: what storing the numbers leaves of that
    complete    whether the parents explain everything but rounding
    base        the common base: one of the parents, or another registered model
    alike       pairs of models that cannot be told apart here
    condition   of the parents' differences: how much an error in one direction is worse than in another
    """

    parents: tuple[Parent, ...]
    method: str
    residual: float
    rounding: float
    complete: bool
    base: str | None
    components: tuple[Part, ...]
    layers: tuple[Part, ...]
    norms: Part | None
    alike: tuple[tuple[str, str], ...]
    condition: float

    @property
    def is_merge(self) -> bool:
        return self.method != ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parent.model for parent in self.parents)

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(parent.weight for parent in self.parents)


def find_merge(query: Fingerprint, candidates: Mapping[str, Fingerprint], base: str | None = None) -> Decomposition | None:
    """The merge of some of these that the query is, or None. Of the sets of parents that stand: the best founded, then the largest."""
    known = able(query, candidates)
    if len(known) < 2:
        return None
    table = table_of_matrices(query, known)
    if is_copy(table):
        return None
    best: tuple[Verdict, tuple[int, ...]] | None = None
    for chosen in parent_sets(table.away):
        verdict = judge(table, chosen, _position(table, base))
        if verdict.ground and (best is None or GROUNDS.index(verdict.ground) <= GROUNDS.index(best[0].ground)):
            best = verdict, chosen
        if verdict.ground == "exact":
            break
    return _described(query, known, table, best[1], best[0]) if best else None


def fit_parents(query: Fingerprint, parents: Mapping[str, Fingerprint], base: str | None = None) -> Decomposition | None:
    """The query against these parents, whether it is a merge of them or not; None if they have not its shapes. One is enough."""
    known = able(query, parents)
    if len(known) < len(parents) or not known:
        return None
    table = table_of_matrices(query, known)
    chosen = tuple(range(len(known)))
    verdict = Verdict("", None, rounding(table, np.ones(1)))
    if len(known) > 1 and not is_copy(table):
        verdict = judge(table, chosen, _position(table, base))
    return _described(query, known, table, chosen, verdict)


def is_copy(table: Table) -> bool:
    """Whether the query is one of these, but for the rounding of its numbers."""
    nearest = float(np.einsum("pii->pi", table.away).mean(axis=0).min())
    return nearest <= (COPY_RATIO * rounding(table, np.ones(1))) ** 2


def _position(table: Table, base: str | None) -> int | None:
    return table.names.index(base) if base in table.names else None


def _described(
    query: Fingerprint, known: Mapping[str, Fingerprint], searched: Table, chosen: Sequence[int], verdict: Verdict
) -> Decomposition:
    """All weights of the chosen parents, on every place that they share with the query."""
    if verdict.ground in ("even", "elected") and verdict.base is not None:
        chosen = sorted({*chosen, verdict.base})
    names = [searched.names[i] for i in chosen]
    parents = {name: known[name] for name in names}
    table = table_of_matrices(query, parents)
    found, method = _method(table, chosen, verdict)
    positive = method in ("linear", "")
    left = _left(table, found, method)
    norms = table_of_vectors(query, parents)
    return Decomposition(
        parents=tuple(Parent(*row) for row in zip(names, found.weights.tolist(), found.errors.tolist(), strict=True)),
        method=method,
        residual=left,
        rounding=verdict.rounding,
        complete=bool(verdict.ground) and left <= EXACT_RATIO * verdict.rounding,
        base=None if verdict.base is None else searched.names[verdict.base],
        components=tuple(_parts(table, _components(table), positive)),
        layers=tuple(_parts(table, _layers(table), positive)),
        norms=_part("norms", "", None, norms, spec.VECTOR_NUMBERS, False) if norms.places else None,
        alike=tuple(_alike(searched, chosen, verdict.base)),
        condition=_condition(table.away.sum(axis=0)),
    )


def _method(table: Table, chosen: Sequence[int], verdict: Verdict) -> tuple[Fit, str]:
    """The weights of the whole model, and how such a model is made."""
    found = fit(table.away)
    if not verdict.ground:
        return fit(table.away, positive=True), ""
    if len(table.names) == 2 and (spherical := slerp_fit(table)).left.sum() < found.left.sum() / 2:
        return spherical, "slerp"
    if verdict.ground in ("even", "elected"):
        return found, "sparsified" if verdict.ground == "even" else "sign election"
    if found.weights.min() < 0 and verdict.base in chosen:
        return found, "task arithmetic"
    flexible = float(left_by_place(table.away).sum())
    changing = verdict.ground == "exact" and found.left.sum() > CHANGING * max(flexible, len(table.places) * verdict.rounding**2)
    return (found, "gradient") if changing else (fit(table.away, positive=True), "linear")


def _left(table: Table, found: Fit, method: str) -> float:
    """What is left unexplained, with weights that may change over the model where the method is one of these."""
    return float(np.sqrt(left_by_place(table.away).mean())) if method == "gradient" else found.residual


def _alike(table: Table, chosen: Sequence[int], base: int | None) -> Iterator[tuple[str, str]]:
    """Pairs of a parent and another model that are nearly the same beside what each changed."""
    away = table.away.mean(axis=0)
    for first in chosen:
        for other in range(len(table.names)):
            if other == first or (other in chosen and other < first) or base in (first, other):
                continue
            apart = away[first, first] + away[other, other] - 2 * away[first, other]
            if apart <= ALIKE**2 * _change(away, first, other, chosen, base):
                yield table.names[first], table.names[other]


def _change(away: Floats, first: int, other: int, chosen: Sequence[int], base: int | None) -> float:
    """How far a parent is from the base, or where none is known from the nearest further parent."""
    origins = [base] if base is not None else [c for c in chosen if c not in (first, other)]
    return min((float(away[first, first] + away[o, o] - 2 * away[first, o]) for o in origins), default=0.0)


def _condition(away: Floats) -> float:
    """Condition number of the parents' differences: the weights' directions, not their sum."""
    count = len(away)
    if count < 3:
        return 1.0
    basis = np.linalg.qr(np.eye(count) - 1 / count)[0][:, : count - 1]
    values = np.linalg.eigvalsh(basis.T @ away @ basis)
    return float(values[-1] / max(float(values[0]), 1e-12 * float(values[-1])))


def _components(table: Table) -> dict[tuple[str, str, int | None], list[int]]:
    found: dict[tuple[str, str, int | None], list[int]] = {}
    for row, place in enumerate(table.places):
        found.setdefault((place.component, place.component, None), []).append(row)
    return found


def _layers(table: Table) -> dict[tuple[str, str, int | None], list[int]]:
    found: dict[tuple[str, str, int | None], list[int]] = {}
    for row, place in enumerate(table.places):
        found.setdefault(_layer_name(place), []).append(row)
    return found


def _layer_name(place: Place) -> tuple[str, str, int | None]:
    if place.layer == NO_LAYER:
        return place.family, place.component, None
    return f"layer {place.layer}", place.component, place.layer


def _parts(table: Table, rows: Mapping[tuple[str, str, int | None], Sequence[int]], positive: bool) -> Iterator[Part]:
    for (name, component, layer), chosen in rows.items():
        yield _part(name, component, layer, table.only(chosen), spec.PROBE_NUMBERS, positive)


def _part(name: str, component: str, layer: int | None, table: Table, numbers: int, positive: bool) -> Part:
    found = fit(table.away, positive=positive, numbers=numbers)
    return Part(name, component, layer, tuple(found.weights.tolist()), tuple(found.errors.tolist()), found.residual)
