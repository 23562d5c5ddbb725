"""Tensors that one file names otherwise than another, found again by what they hold, so that they can be held against each other.

Exporters rename: `conv1` becomes `conv2d_5/kernel:0`, `_model.encoder` becomes `then_branch.encoder`. Names that tables know are the same
in every container; for others the sampled rows do not depend on the name (`sketch.unnamed_rows`), so that a copy shows itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from modelkin_indexer.places import Place
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.alignment import CHANNEL_R
from modelkin_registry.evidence.judge import Judge
from modelkin_registry.evidence.nulls import sketch_noise, two_sided_p
from modelkin_registry.evidence.places import FAMILY_P, FURTHER_P, SAME_NORM_R
from modelkin_registry.evidence.similarity import numbers_behind

Floats = npt.NDArray[np.float64]
Pair = tuple[int, int]  # a row of the query's table and one of the relative's


def under_names_of(query: Fingerprint, relative: Fingerprint, components: Sequence[tuple[str, str]], judge: Judge) -> Fingerprint:
    """The relative with the query's names for those tensors without a namesake that hold the same.

    A pair counts where each is the other's nearest among tensors of its shape, beyond chance among all pairs looked at (FAMILY_P for the
    first, FURTHER_P once one stands). So what is then measured is not chosen by its looks: of strangers no pair is made.
    """
    matrices, vectors = list(relative.matrices.places), list(relative.vectors.places)
    renamed = 0
    for ours, theirs in components:
        found = _same_matrices(query, relative, *_nameless(query.matrices.places, relative.matrices.places, ours, theirs), judge)
        found_vectors = _same_vectors(query, relative, *_nameless(query.vectors.places, relative.vectors.places, ours, theirs))
        for a, b in found:
            matrices[b] = query.matrices.places[a]._replace(component=theirs)
        for a, b in found_vectors:
            vectors[b] = query.vectors.places[a]._replace(component=theirs)
        renamed += len(found) + len(found_vectors)
    if not renamed:
        return relative
    return replace(
        relative,
        matrices=replace(relative.matrices, places=tuple(matrices)),
        vectors=replace(relative.vectors, places=tuple(vectors)),
    )


def _nameless(ours: Sequence[Place], theirs: Sequence[Place], query: str, relative: str) -> tuple[list[int], list[int]]:
    """Rows on each side of which the other has no namesake."""
    our_names = {(p.family, p.role) for p in ours if p.component == query}
    their_names = {(p.family, p.role) for p in theirs if p.component == relative}
    if our_names == their_names:
        return [], []
    a = [row for row, p in enumerate(ours) if p.component == query and (p.family, p.role) not in their_names]
    b = [row for row, p in enumerate(theirs) if p.component == relative and (p.family, p.role) not in our_names]
    return a, b


def _same_matrices(query: Fingerprint, relative: Fingerprint, ours: list[int], theirs: list[int], judge: Judge) -> list[Pair]:
    table, other = query.matrices, relative.matrices
    equal = _equal(query, relative, ours, theirs)
    left = {row for row, _ in equal}, {row for _, row in equal}
    ours, theirs = [row for row in ours if row not in left[0]], [row for row in theirs if row not in left[1]]
    groups = _groups(
        ((int(table.rows[row]), int(table.columns[row]), int(table.experts[row])), row) for row in ours
    ), _groups(((int(other.rows[row]), int(other.columns[row]), int(other.experts[row])), row) for row in theirs)  # fmt: skip
    shapes = sorted(groups[0].keys() & groups[1].keys(), key=repr)
    looked_at = sum(len(groups[0][shape]) * len(groups[1][shape]) for shape in shapes)
    found: list[tuple[float, Pair]] = []
    for shape in shapes:
        a, b = groups[0][shape], groups[1][shape]
        for (row, column), cosine in _nearest(table.probe[a].astype(float) @ other.probe[b].astype(float).T):
            noise = sketch_noise("probe", numbers_behind(table, a[row], "probe"))
            sd = float(np.hypot(noise, judge.between_models(table.places[a[row]].family, "probe")))
            if cosine >= CHANNEL_R["probe"]:
                found.append((two_sided_p(cosine / sd, looked_at), (a[row], b[column])))
    if not equal and not any(p <= FAMILY_P for p, _ in found):
        return []
    return equal + [pair for p, pair in found if p <= FURTHER_P]


def _equal(query: Fingerprint, relative: Fingerprint, ours: list[int], theirs: list[int]) -> list[Pair]:
    """Matrices with the same digest and shape (level full), in the order of their places; constant ones say nothing."""
    table, other = query.matrices, relative.matrices
    if not (table.digest.shape[1] and other.digest.shape[1]):
        return []
    a = _groups(((table.digest[row].tobytes(), int(table.rows[row])), row) for row in ours if table.sd[row] > 0)
    b = _groups(((other.digest[row].tobytes(), int(other.rows[row])), row) for row in theirs)
    return [pair for key, rows in a.items() for pair in zip(rows, b.get(key, ()), strict=False)]


def _same_vectors(query: Fingerprint, relative: Fingerprint, ours: list[int], theirs: list[int]) -> list[Pair]:
    """Equal vectors, in the order of their places, and near ones. Vectors show no descent, so their chance is not judged."""
    table, other = query.vectors, relative.vectors
    equal = _groups((table.digest[row].tobytes(), row) for row in ours), _groups((other.digest[row].tobytes(), row) for row in theirs)
    found = [pair for digest, rows in equal[0].items() for pair in zip(rows, equal[1].get(digest, ()), strict=False)]
    left = {row for row, _ in found}, {row for _, row in found}
    groups = (
        _groups((int(table.length[row]), row) for row in ours if row not in left[0] and not table.constant[row]),
        _groups((int(other.length[row]), row) for row in theirs if row not in left[1] and not other.constant[row]),
    )
    for length in groups[0].keys() & groups[1].keys():
        a, b = groups[0][length], groups[1][length]
        cosines = table.sketch[a].astype(float) @ other.sketch[b].astype(float).T
        found += [(a[row], b[column]) for (row, column), cosine in _nearest(cosines) if cosine >= SAME_NORM_R]
    return found


def _groups(keyed: Iterable[tuple[Hashable, int]]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for key, row in keyed:
        groups[key].append(row)
    return groups


def _nearest(cosines: Floats) -> Iterator[tuple[Pair, float]]:
    """Cells that are the largest of both their row and their column."""
    columns, rows = cosines.argmax(axis=1), cosines.argmax(axis=0)
    for row, column in enumerate(columns.tolist()):
        if rows[column] == row:
            yield (row, column), float(cosines[row, column])
