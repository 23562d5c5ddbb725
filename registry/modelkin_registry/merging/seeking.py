"""Parents sought in a registry: among the nearest relatives, then among what explains the part that those leave.

A parent with a small weight may be far from the model and near to none of the nearest. What is left of the model after the best mix of
those points at it, so the index is asked again with a sketch that leans that way (matching pursuit, Mallat and Zhang 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.merging.decomposition import Decomposition, find_merge, is_copy
from modelkin_registry.merging.fit import fit
from modelkin_registry.merging.search import parent_sets
from modelkin_registry.merging.table import Table, able, table_of_matrices

Floats = npt.NDArray[np.float64]
More = Callable[[Fingerprint], Mapping[str, Fingerprint]]
NEAR = 32  # nearest relatives that may be parents
PURSUED = 16  # further models taken up for what they explain


def seek_merge(query: Fingerprint, near: Mapping[str, Fingerprint], more: More, base: str | None = None) -> Decomposition | None:
    """The merge of registered models that the query is, or None. `near`: the nearest, best first; `more` finds models by a fingerprint."""
    known = able(query, dict(list(near.items())[:NEAR]))
    if not known:
        return None
    table = table_of_matrices(query, known)
    if is_copy(table):
        return None
    found = find_merge(query, known, base)
    if found and found.complete:
        return found
    further = {name: model for name, model in more(leaning(query, known, table)).items() if name not in known}
    pursued = able(query, dict(list(further.items())[:PURSUED]))
    return find_merge(query, known | pursued, base) or found if pursued else found


def leaning(query: Fingerprint, known: Mapping[str, Fingerprint], table: Table) -> Fingerprint:
    """The query moved towards what the best mix of these leaves, by as much as its own length."""
    chosen = _best(table)
    weights = fit(table.away[:, chosen][:, :, chosen]).weights
    rest = _rest(query, [known[table.names[at]] for at in chosen], weights, table)
    size = np.linalg.norm(rest, axis=1)
    overall = max(float(np.sqrt(np.mean(size[size > 0] ** 2))) if size.any() else 1.0, float(np.finfo(np.float64).tiny))
    probe = query.matrices.probe.astype(np.float64) + rest / overall
    lengths = np.maximum(np.linalg.norm(probe, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    none = np.zeros((len(query.matrices), 0), np.float16)
    matrices = replace(query.matrices, probe=(probe / lengths).astype(np.float16), gram=none, anchored=none)
    return replace(query, matrices=matrices)


def _best(table: Table) -> list[int]:
    """The set that explains most, or the nearest one alone."""
    sets = list(parent_sets(table.away))
    return list(sets[-1]) if sets else [int(np.einsum("pii->i", table.away).argmin())]


def _rest(query: Fingerprint, parents: Sequence[Fingerprint], weights: Floats, table: Table) -> Floats:
    """(places of the query, numbers): what the mix leaves, over the query's size; zero in places that a parent lacks."""
    rest = np.zeros(query.matrices.probe.shape)
    own = {place: row for row, place in enumerate(query.matrices.places)}
    rows = [own[place] for place in table.places]
    rest[rows] = query.matrices.probe[rows]
    for parent, weight in zip(parents, weights, strict=True):
        theirs = {place: row for row, place in enumerate(parent.matrices.places)}
        taken = [theirs[place] for place in table.places]
        share = weight * parent.matrices.scale[taken].astype(np.float64) / query.matrices.scale[rows]
        rest[rows] -= parent.matrices.probe[taken].astype(np.float64) * share[:, None]
    return rest
