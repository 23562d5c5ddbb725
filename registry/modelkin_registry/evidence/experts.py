"""Single experts matched between two mixtures, whatever their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from modelkin_indexer import spec
from modelkin_indexer.results.fingerprint import Matrices
from modelkin_indexer.results.once import once
from modelkin_registry.evidence.nulls import median, two_sided_p
from modelkin_registry.evidence.side import Side
from modelkin_registry.evidence.similarity import rows_by_role

EXPERT_COSINE = 0.6  # an expert is matched from here: noise of 0.10 reaches it once in 250 million pairs
FEWEST_LAYERS = 0.5  # share of the mixture's aligned layers that must hold a match
EXPERT_NOISE = (3 * spec.EXPERT_NUMBERS) ** -0.5  # of the cosine of two strangers: three matrices' sketches side by side
MATRIX_SLOTS = 3  # gate, up, down come first in an expert's vector; the router row is last


Match = tuple[int, int, float]  # query expert, relative expert, cosine
Origin = tuple[int, int, int, int]  # query layer, query expert, relative layer, relative expert


class ExpertMatch(Struct, frozen=True):
    """`share` of the query's experts (in aligned layers) found in the relative; `moved` of those sit at another number.

    `duplicated` of them are an expert that another one already is; `matches` says which is from where.
    """

    share: float
    moved: float
    cosine: float
    p_value: float
    duplicated: float = 0.0
    matches: tuple[Origin, ...] = ()


def match_experts(query: Side, relative: Side, pairs: Sequence[tuple[int, int]]) -> ExpertMatch | None:
    """Match experts of aligned layers one to one. None where either side has none."""
    if not (len(query.fingerprint.experts) and len(relative.fingerprint.experts)):
        return _match_sampled(query, relative, pairs)
    ours, theirs = _by_layer(query), _by_layer(relative)
    aligned = [(a, b) for a, b in pairs if a in ours and b in theirs]
    return _matched_layers([((a, b), _match(ours[a], theirs[b]), len(ours[a])) for a, b in aligned])


def _matched_layers(layers: Sequence[tuple[tuple[int, int], list[Match], int]]) -> ExpertMatch | None:
    """Matches of all aligned layers, each with the number of experts looked at."""
    if not layers:
        return None
    found = [match for _, matches, _ in layers for match in matches]
    if sum(bool(matches) for _, matches, _ in layers) < FEWEST_LAYERS * len(layers):
        return ExpertMatch(0.0, 0.0, 0.0, 1.0)
    moved = sum(a != b for a, b, _ in found)
    cosines = [r for _, _, r in found]
    tests = sum(count**2 for _, _, count in layers)  # pairs of experts looked at
    p_value = two_sided_p(median(cosines) / EXPERT_NOISE, tests)
    repeated = sum(len(matches) - len({b for _, b, _ in matches}) for _, matches, _ in layers)
    origins = tuple(sorted((a, mine, b, theirs) for (a, b), matches, _ in layers for mine, theirs, _ in matches))
    share = len(found) / sum(count for _, _, count in layers)
    return ExpertMatch(share, moved / len(found), float(np.mean(cosines)), p_value, repeated / len(found), origins)


def _match_sampled(query: Side, relative: Side, pairs: Sequence[tuple[int, int]]) -> ExpertMatch | None:
    """Level probe: the sampled rows of a few experts lie in fixed parts of the stacked sketch; experts that moved are not seen."""
    ours, theirs = _sampled_by_layer(query), _sampled_by_layer(relative)
    layers = []
    for a, b in pairs:
        if a in ours and b in theirs and ours[a].shape == theirs[b].shape:
            cosines = np.diag(_cosines(ours[a], theirs[b]))
            layers.append(((a, b), [(e, e, float(r)) for e, r in enumerate(cosines) if r >= EXPERT_COSINE], len(cosines)))
    return _matched_layers(layers)


def _sampled_by_layer(side: Side) -> dict[int, npt.NDArray[np.float32]]:
    """Layer -> (sampled experts, numbers): the parts of the gate, up and down sketches that belong to each sampled expert."""
    probe, found = side.matrices.probe, _stacks(side.matrices, side.component)
    return {
        layer: np.hstack([probe[row].astype(np.float32).reshape(spec.EXPERT_BLOCKS, -1) for row in rows]) for layer, rows in found.items()
    }


@once
def _stacks(table: Matrices, component: str) -> Mapping[int, list[int]]:
    """Layer -> the rows of its stacks of experts, by role."""
    found: dict[int, list[int]] = {}
    for (family, _), (layers, rows) in sorted(rows_by_role(table.places, component).items()):
        for layer, row in zip(layers.tolist(), rows.tolist(), strict=True):
            if family == "expert" and table.experts[row] > 1:
                found.setdefault(layer, []).append(row)
    return found


def _by_layer(side: Side) -> dict[int, npt.NDArray[np.float32]]:
    rows: dict[int, list[int]] = {}
    for row, place in enumerate(side.fingerprint.experts.places):
        if place.component == side.component:
            rows.setdefault(place.layer, []).append(row)
    matrices = MATRIX_SLOTS * spec.EXPERT_NUMBERS  # a transplanted expert keeps its matrices, not its router row
    return {layer: side.fingerprint.experts.sketch[at, :matrices].astype(np.float32) for layer, at in rows.items()}


def _match(mine: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> list[Match]:
    """(query expert, relative expert, cosine) of a greedy one-to-one matching above EXPERT_COSINE, best first; then copies of those."""
    cosines = _cosines(mine, other)
    left, found = cosines.copy(), []
    while left.size and left.max() >= EXPERT_COSINE:
        a, b = np.unravel_index(int(np.argmax(left)), left.shape)
        found.append((int(a), int(b), float(cosines[a, b])))
        left[a, :], left[:, b] = -1.0, -1.0
    single = {a for a, _, _ in found}
    copies = [(a, int(np.argmax(row)), float(row.max())) for a, row in enumerate(cosines) if a not in single and row.size]
    return found + [(a, b, r) for a, b, r in copies if r >= EXPERT_COSINE]


def cloned_experts(side: Side) -> float | None:
    """How alike the experts of one layer are among themselves: mean cosine over pairs. None without single experts."""
    found = []
    for rows in _by_layer(side).values():
        cosines = _cosines(rows, rows)
        found += cosines[np.triu_indices(len(rows), 1)].tolist()
    return float(np.mean(found)) if found else None


def _cosines(mine: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(other, axis=1)[None, :]
    return np.asarray(np.divide(mine @ other.T, lengths, out=np.zeros_like(lengths), where=lengths > 0), np.float32)
