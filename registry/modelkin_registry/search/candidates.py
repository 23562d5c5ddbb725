"""Which registered models are worth a closer look: short vectors of a model to search by, and the votes they collect."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modelkin_indexer import sketch
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_registry.evidence.similarity import rows_by_role
from modelkin_registry.search.nameless import CONTENTS, SHAPED, nameless_rows
from modelkin_registry.search.ranking import Hits
from modelkin_registry.search.readings import reading_rows
from modelkin_registry.store.rows import CODE_BITS, IndexRows

Floats = npt.NDArray[np.float64]
# Fixed slots: where a role stands in its family's vector. A role without a slot shares the last one.
SLOTS: Mapping[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o", "rest"),
    "mlp": ("gate", "up", "down", "rest"),
    "expert": ("gate", "up", "down", "rest"),
    "embedding": ("token", "rest"),
    "conv": ("rest",),
    "ssm": ("rest",),
    "other": ("rest",),
}
GRAM_FAMILIES = ("attention", "mlp", "expert")
LAYER_FAMILIES = ("attention", "mlp", "expert")
VOTE_Z = 4.5  # a hit counts as a vote this many standard deviations above 0 (its vector's own noise): one stranger of 300,000 does
CODE_Z = 6.0  # sign codes are many and coarse: a layer's vote needs more
CODE_NOISE = np.pi / (2 * np.sqrt(CODE_BITS))  # sd of cos(pi * hamming / bits) between strangers
SEARCHED = 64  # candidates with a vote that are confirmed by default
NEAREST = 16  # and of those without a vote: what is near by chance, and the strangers that widen the nulls
REVISIONS = 3  # of one model that are confirmed: a hundred saved states of one training must not crowd out what it was made from
HITS = 256  # hits asked of each family vector: costs as much as 64, and finds weak relatives again in several families


class Index(Protocol):
    """What candidates need of a vector index."""

    def search(self, kind: str, queries: npt.NDArray[np.float32], k: int) -> Hits: ...
    def search_exact(self, kind: str, queries: npt.NDArray[np.float32], k: int) -> Hits: ...
    def models_of(self, revisions: Iterable[int]) -> Mapping[int, int]: ...


def index_rows(fingerprint: Fingerprint) -> list[IndexRows]:
    """Everything a model is found by.

    sum/FAMILY       probe sketches summed over layers: hardly notices added, dropped or re-ordered layers
    gram/, anchored/ the same of the other channels (level full): finds copies in other coordinates, without names too (readings.py)
    layer/FAMILY     one row a layer: finds single reused layers
    shaped, contents depend on no name (nameless.py); `shaped` also orders close siblings
    """
    found: list[IndexRows] = []
    for component in fingerprint.about.components:
        layered = {family: _family_rows(fingerprint, component, family, "probe") for family in SLOTS}
        sums = {family: _summed(rows) for family, rows in layered.items() if rows}
        found += [_single(f"sum/{family}", component, vector) for family, vector in sums.items()]
        for channel in ("gram", "anchored"):
            summed = {family: _summed(_family_rows(fingerprint, component, family, channel)) for family in GRAM_FAMILIES if layered[family]}
            found += [_single(f"{channel}/{family}", component, vector) for family, vector in summed.items() if vector.any()]
        for family in LAYER_FAMILIES:
            layers = sorted(layer for layer in layered[family] if layer >= 0)
            if layers:
                rows = np.array([sketch.unit(layered[family][layer])[0] for layer in layers], np.float32)
                found.append(IndexRows(f"layer/{family}", component, tuple(layers), rows))
    return [rows for rows in (*found, *nameless_rows(fingerprint), *reading_rows(fingerprint, SLOTS)) if rows.rows.any()]


def _family_rows(fingerprint: Fingerprint, component: str, family: str, channel: str) -> dict[int, Floats]:
    """Layer -> the family's vector in fixed slots."""
    table = getattr(fingerprint.matrices, channel)
    width = table.shape[1]
    slots = SLOTS[family]
    roles = rows_by_role(fingerprint.matrices.places, component) if width else {}
    chosen = {role: rows for role, rows in roles.items() if role[0] == family or (role[0], family) == ("head", "embedding")}
    layers = sorted({layer for numbers, _ in chosen.values() for layer in numbers.tolist()})
    vectors = np.zeros((len(layers), len(slots) * width))
    for (_, role), (numbers, rows) in chosen.items():
        slot = slots.index(role) if role in slots else len(slots) - 1
        vectors[np.searchsorted(layers, numbers), slot * width : (slot + 1) * width] += table[rows]
    return dict(zip(layers, vectors, strict=True))


def _summed(rows: Mapping[int, Floats]) -> Floats:
    return sketch.unit(np.sum(list(rows.values()), axis=0))[0] if rows else np.zeros(1)


def _single(kind: str, component: str, vector: Floats) -> IndexRows:
    return IndexRows(kind, component, (-1,), vector.astype(np.float32)[None, :])


def find_candidates(
    index: Index, fingerprint: Fingerprint, *, limit: int = SEARCHED, nearest: int = NEAREST, exact: bool = False
) -> list[int]:
    """Revisions by their votes, best first, at most `limit`; then the `nearest` without a vote, one of each model. Ties by number."""
    votes: dict[int, float] = defaultdict(float)
    wholes: dict[int, float] = defaultdict(float)
    seen: dict[int, list[float]] = defaultdict(list)
    search = index.search_exact if exact else index.search
    for rows in index_rows(fingerprint):
        layered = rows.kind.startswith("layer/")
        hits = search(rows.kind, rows.rows, max(limit, nearest) if layered else max(HITS, limit, nearest))
        discount = 2 * math.log(len(rows.rows) ** 2)  # the best of so many looks is as rare as one of sqrt(z^2 - this): exp(-z^2 / 2) looks
        noise = CODE_NOISE if layered else 1 / math.sqrt(np.count_nonzero(rows.rows))  # slots that no role fills say nothing
        for revision, score in _pairs(hits):
            z = score / noise
            if z >= (CODE_Z if layered else VOTE_Z):
                votes[revision] += 0.0 if rows.kind == SHAPED else score
            if rows.kind == SHAPED:  # repeats the families where names tell them: it orders what has a vote
                wholes[revision] = score
            elif rows.kind != CONTENTS:  # of unequal numbers digests say nothing
                seen[revision].append(math.sqrt(max(z * z - discount, 0.0)))
    voted = sorted(votes, key=lambda revision: (-votes[revision] - wholes[revision], revision))
    together = {revision: sum(found) / math.sqrt(len(found)) for revision, found in seen.items() if revision not in votes}
    near = sorted(together, key=lambda revision: (-together[revision], revision))
    models = index.models_of([*seen, *votes])
    return [*islice(_at_most(voted, models, REVISIONS), limit), *islice(_at_most(near, models, 1), nearest)]


def _at_most(revisions: Iterable[int], models: Mapping[int, int], most: int) -> Iterator[int]:
    """The first so many revisions of each model. What was removed meanwhile is left out."""
    taken: dict[int, int] = defaultdict(int)
    for revision in revisions:
        if revision in models and taken[models[revision]] < most:
            taken[models[revision]] += 1
            yield revision


def _pairs(hits: Hits) -> Iterator[tuple[int, float]]:
    """Each revision's best score in a batch of hits."""
    revisions, scores = hits.revisions.ravel(), hits.scores.ravel()
    order = np.lexsort((-scores, revisions))
    revisions, scores = revisions[order], scores[order]
    first = np.flatnonzero(np.diff(revisions, prepend=-1))  # revision -1, a place without a hit, comes before all
    yield from zip(revisions[first].tolist(), scores[first].tolist(), strict=True)
