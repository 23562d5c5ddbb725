"""Weighted merges found on sketches: which registered models, in which proportion, explain a model better than any of them alone.

Sketches are linear, so the weights of a merge of models are those of its sketches: least squares with weights that sum to one. A further
fine-tune of the same base is partly explained by its siblings as well, which is what the gain has to exceed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from modelkin_indexer.fingerprint import Fingerprint
from modelkin_indexer.places import Place
from modelkin_registry.answers import Relative
from modelkin_registry.deltas import RECAST_DELTA

Floats = npt.NDArray[np.float64]
PARENTS_TRIED = 8  # nearest relatives that may be parents
# Share of what a simpler explanation leaves that one more parent must explain. Unequal fine-tunes of one base explain 0.25 of a sibling
# in pairs and 0.11 more as three (independent deltas of equal size); exact merges reach 1.
GAIN = 0.5
LARGEST_BLEND = 3  # parents of a merge at most
SMALLEST_WEIGHT = 0.03  # a smaller weight is not told from none


@dataclass(frozen=True)
class Blend:
    """Parents with their weights (sum 1) and standard errors; `residual` is the length left unexplained / the query's length."""

    parents: tuple[str, ...]
    weights: tuple[float, ...]
    errors: tuple[float, ...]
    residual: float

    def to_plain(self) -> dict[str, object]:
        """The contract's `merge` object."""
        rows = zip(self.parents, self.weights, self.errors, strict=True)
        parents = [{"model": name, "weight": round(weight, 4), "sd": round(error, 4)} for name, weight, error in rows]
        return {"parents": parents, "residual": round(self.residual, 5)}


def find_blend(query: Fingerprint, parents: Mapping[str, Fingerprint]) -> Blend | None:
    """The simplest merge of two or three of these that explains the query; None if one of them alone does about as well.

    Only models that have every matrix of the query in the same place and shape can take part.
    """
    rows = _rows(query)
    size = {place: float(query.matrices.scale[row]) for place, row in rows.items()}
    able = {name: parent for name, parent in sorted(parents.items()) if _shapes(parent).items() >= _shapes(query).items()}
    target = _flat(query, size)
    columns = {name: _flat(parent, size) for name, parent in able.items()}
    if len(columns) < 2:
        return None
    left = min(float(np.sum((target - column) ** 2)) for column in columns.values())
    if left <= RECAST_DELTA**2 * float(target @ target):
        return None  # one of them is the query itself
    found: Blend | None = None
    gram = _gram([column - target for column in columns.values()])
    for count in range(2, min(LARGEST_BLEND, len(columns)) + 1):
        nearest = min(combinations(range(len(columns)), count), key=lambda chosen: _left(gram, chosen))
        rest, best = _fit(target, columns, [[*columns][at] for at in nearest])
        if rest <= (1 - GAIN) * left and min(map(abs, best.weights)) >= SMALLEST_WEIGHT:
            left, found = rest, best
    return found


def _gram(vectors: Sequence[Floats]) -> Floats:
    """Inner products of all pairs. Without BLAS, which takes several threads for so little and then waits for them."""
    stacked = np.stack(vectors)
    return np.asarray(np.einsum("id,jd->ij", stacked, stacked))


def _left(gram: Floats, chosen: Sequence[int]) -> float:
    """Squares that a fit of these leaves, from the inner products of all columns less the target: enough to compare fits by."""
    *first, last = chosen
    away = gram[last, last] - gram[first, last]
    differences = gram[np.ix_(first, first)] - gram[first, last][:, None] - gram[last, first][None, :] + gram[last, last]
    return float(gram[last, last] - away @ np.linalg.pinv(differences) @ away)


def _fit(target: Floats, columns: Mapping[str, Floats], chosen: Sequence[str]) -> tuple[float, Blend]:
    """Least squares with weights that sum to one: (squares left, blend). Weights may be negative, as in task arithmetic."""
    last = columns[chosen[-1]]
    differences = [columns[name] - last for name in chosen[:-1]]
    products = _gram([*differences, target - last])
    inverse = np.linalg.pinv(products[:-1, :-1])
    weights = inverse @ products[:-1, -1]
    remainder = target - last - sum(weight * difference for weight, difference in zip(weights, differences, strict=True))
    left = float(_gram([remainder])[0, 0])
    spread = left / max(len(target) - len(chosen), 1) * inverse
    errors = [*np.sqrt(np.diag(spread)), float(np.sqrt(spread.sum()))]
    total = float(np.sqrt(left / (target @ target)))
    return left, Blend(tuple(chosen), (*map(float, weights), float(1 - weights.sum())), tuple(map(float, errors)), total)


def _rows(model: Fingerprint) -> dict[Place, int]:
    return {place: row for row, place in enumerate(model.matrices.places) if model.matrices.scale[row] > 0}


def _shapes(model: Fingerprint) -> dict[Place, tuple[int, int]]:
    table = model.matrices
    return {place: (int(table.rows[row]), int(table.columns[row])) for place, row in _rows(model).items()}


def _flat(model: Fingerprint, size: Mapping[Place, float]) -> Floats:
    """The linear sketch of all wanted places in one vector, each place divided by the query's size there, so that all count alike."""
    rows, table = _rows(model), model.matrices
    parts = [table.probe[rows[place]].astype(float) * float(table.scale[rows[place]]) / length for place, length in size.items()]
    return np.concatenate(parts)


def mark_parents(relatives: Sequence[Relative], blend: Blend | None) -> list[Relative]:
    """The relatives with the blend's parents called `merged`."""
    parents = blend.parents if blend else ()
    return [replace(r, relation="merged", also=(r.relation, *r.also)) if r.model in parents else r for r in relatives]


def blend_sentence(subject: str, blend: Blend) -> str:
    """`x is best explained as a weighted merge: 0.65 (sd 0.01) A + 0.35 (sd 0.01) B; ...`."""
    rows = zip(blend.weights, blend.errors, blend.parents, strict=True)
    parts = " + ".join(f"{weight:.2f} (sd {error:.2g}) {name}" for weight, error, name in rows)
    rest = f"{blend.residual:.1%} of its size is left unexplained"
    return f"{subject} is best explained as a weighted merge of registered models: {parts}; {rest}."
