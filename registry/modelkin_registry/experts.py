"""Single experts matched between two mixtures, whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelkin_indexer.fingerprint import Fingerprint

EXPERT_COSINE = 0.6  # an expert is matched from here: 128 numbers of noise 0.09 do not reach it among thousands of experts
FEWEST_LAYERS = 0.5  # share of the mixture's aligned layers that must hold a match
EXPERT_P = 1e-12  # reported for matched experts: Bonferroni over 10,000 pairs of experts at EXPERT_COSINE


@dataclass(frozen=True)
class ExpertMatch:
    """`share` of the query's experts (in aligned layers) found in the relative; `moved` of those sit at another number."""

    share: float
    moved: float
    cosine: float
    p_value: float


def match_experts(
    query: Fingerprint, relative: Fingerprint, query_component: str, relative_component: str, pairs: Sequence[tuple[int, int]]
) -> ExpertMatch | None:
    """Match experts of aligned layers one to one. None where either side has none."""
    ours, theirs = _by_layer(query, query_component), _by_layer(relative, relative_component)
    aligned = [(ours[a], theirs[b]) for a, b in pairs if a in ours and b in theirs]
    if not aligned:
        return None
    cosines, moved, count, layers = [], 0, 0, 0
    for mine, other in aligned:
        matches = _match(mine, other)
        count += len(mine)
        layers += bool(matches)
        moved += sum(a != b for a, b, _ in matches)
        cosines += [cosine for _, _, cosine in matches]
    if layers < FEWEST_LAYERS * len(aligned):
        return ExpertMatch(0.0, 0.0, 0.0, 1.0)
    return ExpertMatch(len(cosines) / count, moved / len(cosines), float(np.mean(cosines)), EXPERT_P)


def _by_layer(fingerprint: Fingerprint, component: str) -> dict[int, npt.NDArray[np.float32]]:
    rows: dict[int, list[int]] = {}
    for row, place in enumerate(fingerprint.experts.places):
        if place.component == component:
            rows.setdefault(place.layer, []).append(row)
    return {layer: fingerprint.experts.sketch[at].astype(np.float32) for layer, at in rows.items()}


def _match(mine: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """(query expert, relative expert, cosine) of a greedy one-to-one matching above EXPERT_COSINE, best first."""
    lengths = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(other, axis=1)[None, :]
    cosines = np.divide(mine @ other.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    found = []
    while cosines.size and cosines.max() >= EXPERT_COSINE:
        a, b = np.unravel_index(int(np.argmax(cosines)), cosines.shape)
        found.append((int(a), int(b), float(cosines[a, b])))
        cosines[a, :], cosines[:, b] = -1.0, -1.0
    return found
