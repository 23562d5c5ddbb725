"""Which registered models are worth a closer look: short vectors of a model to search by, and the votes they collect."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
Ints = npt.NDArray[np.int64]
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
FIRST = 4  # models with a vote that are nearest in one kind alone: a hundred others a little like all of a model must not crowd them out
REVISIONS = 3  # of one model that are confirmed: a hundred saved states of one training must not crowd out what it was made from
MODELS_ASKED = 4  # times the nearest whose models are looked up at first
HITS = 256  # hits asked of each family vector: costs as much as 64, and finds weak relatives again in several families


class Index(Protocol):
    """What candidates need of a vector index."""

    def search(self, kind: str, queries: npt.NDArray[np.float32], k: int) -> Hits: ...
    def search_exact(self, kind: str, queries: npt.NDArray[np.float32], k: int) -> Hits: ...
    def models_of(self, revisions: Iterable[int]) -> Mapping[int, int]: ...


def index_rows(fingerprint: Fingerprint, *, layered: bool = True) -> list[IndexRows]:
    """Everything a model is found by; without the rows of single layers unless `layered`.

    sum/FAMILY       probe sketches summed over layers: hardly notices added, dropped or re-ordered layers
    gram/, anchored/ the same of the other channels (level full): finds copies in other coordinates, without names too (readings.py)
    layer/FAMILY     one row a layer: finds single reused layers
    shaped, contents depend on no name (nameless.py); `shaped` also orders close siblings
    """
    found: list[IndexRows] = []
    for component in fingerprint.about.components:
        per_layer = {family: _family_rows(fingerprint, component, family, "probe") for family in SLOTS}
        sums = {family: _summed(rows) for family, rows in per_layer.items() if rows}
        found += [_single(f"sum/{family}", component, vector) for family, vector in sums.items()]
        for channel in ("gram", "anchored"):
            summed = {
                family: _summed(_family_rows(fingerprint, component, family, channel)) for family in GRAM_FAMILIES if per_layer[family]
            }
            found += [_single(f"{channel}/{family}", component, vector) for family, vector in summed.items() if vector.any()]
        for family in LAYER_FAMILIES if layered else ():
            layers = sorted(layer for layer in per_layer[family] if layer >= 0)
            if layers:
                rows = np.array([sketch.unit(per_layer[family][layer])[0] for layer in layers], np.float32)
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
    """Revisions by their votes, best first, at most `limit`, and those that come first in a kind; then the `nearest` without a vote, one of
    each model. Ties by number.
    """
    return find_candidates_of_many(index, [fingerprint], limit=limit, nearest=nearest, exact=exact)[0]


def find_candidates_of_many(
    index: Index,
    fingerprints: Sequence[Fingerprint],
    *,
    limit: int = SEARCHED,
    nearest: int = NEAREST,
    exact: bool = False,
    layered: bool = True,
) -> list[list[int]]:
    """The candidates of each of these, all of them asked in one search of each kind; `layered`: by rows of single layers too."""
    asked: dict[str, list[tuple[int, npt.NDArray[np.float32]]]] = defaultdict(list)
    for number, fingerprint in enumerate(fingerprints):
        for rows in index_rows(fingerprint, layered=layered):
            asked[rows.kind].append((number, rows.rows))
    found = [_Votes() for _ in fingerprints]
    search = index.search_exact if exact else index.search
    for kind, queries in asked.items():
        most = max(limit, nearest) if kind.startswith("layer/") else max(HITS, limit, nearest)
        for width in sorted({rows.shape[1] for _, rows in queries}):
            some = [(number, rows) for number, rows in queries if rows.shape[1] == width]
            hits, start = search(kind, np.concatenate([rows for _, rows in some]), most), 0
            for number, wanted in some:
                end = start + len(wanted)
                found[number].take(kind, wanted, hits.revisions[start:end], hits.scores[start:end], all_hits=nearest > 0)
                start = end
    near = [votes.near() for votes in found]
    first = [of[: MODELS_ASKED * nearest] for of in near]
    models = dict(index.models_of({one for votes, of in zip(found, first, strict=True) for one in (*votes.votes, *of)}))
    for of, asked_for in zip(near, first, strict=True):
        if len(of) > len(asked_for) and len({models[one] for one in asked_for if one in models}) < nearest:
            models |= index.models_of(of)  # many revisions of few models
    return [votes.ordered(models, limit, nearest, of) for votes, of in zip(found, near, strict=True)]


class _Votes:
    """What the hits of one fingerprint's rows say of revisions."""

    def __init__(self) -> None:
        self.votes: dict[int, float] = defaultdict(float)
        self.wholes: dict[int, float] = defaultdict(float)
        self.seen: list[tuple[Ints, Floats]] = []  # of each kind the revisions and how far they stand out
        self.first: dict[str, list[tuple[float, int]]] = defaultdict(list)  # of each kind the hits with a vote: -score, revision

    def take(self, kind: str, rows: npt.NDArray[np.float32], revisions: Ints, scores: Floats, *, all_hits: bool) -> None:
        """Count the hits (rows, k) of rows of one kind; without `all_hits` only those with a vote."""
        layered = kind.startswith("layer/")
        discount = 2 * math.log(len(rows) ** 2)  # the best of so many looks is as rare as one of sqrt(z^2 - this): exp(-z^2 / 2) looks
        noise = CODE_NOISE if layered else 1 / math.sqrt(np.count_nonzero(rows))  # slots that no role fills say nothing
        least = CODE_Z if layered else VOTE_Z
        found, best = _best(revisions, scores, -1.0 if all_hits or kind == SHAPED else least * noise)
        z = best.astype(np.float64) / noise
        voting = z >= least
        for revision, score in zip(found[voting].tolist(), best[voting].tolist(), strict=True):
            self.votes[revision] += 0.0 if kind == SHAPED else score
            self.first[kind].append((-score, revision))
        if kind == SHAPED:  # repeats the families where names tell them: it orders what has a vote
            self.wholes.update(zip(found.tolist(), best.tolist(), strict=True))
        elif all_hits and kind != CONTENTS:  # of unequal numbers digests say nothing
            self.seen.append((found, np.sqrt(np.maximum(z * z - discount, 0.0))))

    def near(self) -> list[int]:
        """Revisions without a vote, by how far they stand out in all kinds together."""
        if not self.seen:
            return []
        revisions, values = (np.concatenate(column) for column in zip(*self.seen, strict=True))
        found, at, count = np.unique(revisions, return_inverse=True, return_counts=True)
        total = np.zeros(len(found))
        np.add.at(total, at, values)
        lone = ~np.isin(found, [*self.votes])
        found, together = found[lone], (total / np.sqrt(count))[lone]
        return [int(revision) for revision in found[np.lexsort((found, -together))]]

    def ordered(self, models: Mapping[int, int], limit: int, nearest: int, near: Sequence[int]) -> list[int]:
        """Revisions as `find_candidates` gives them."""
        voted = sorted(self.votes, key=lambda revision: (-self.votes[revision] - self.wholes[revision], revision))
        chosen = [*islice(_at_most(voted, models, REVISIONS), limit)]
        taken = {models[revision] for revision in chosen}
        firsts = [islice(_at_most((at for _, at in sorted(kind)), models, 1), FIRST) for kind in self.first.values()]
        first = [one for kind in firsts for one in kind if models[one] not in taken]
        return [*dict.fromkeys([*chosen, *first]), *islice(_at_most(near, models, 1), nearest)]


def _at_most(revisions: Iterable[int], models: Mapping[int, int], most: int) -> Iterator[int]:
    """The first so many revisions of each model. What was removed meanwhile is left out."""
    taken: dict[int, int] = defaultdict(int)
    for revision in revisions:
        if revision in models and taken[models[revision]] < most:
            taken[models[revision]] += 1
            yield revision


def _best(revisions: Ints, scores: Floats, least: float) -> tuple[Ints, Floats]:
    """Each revision's best score in a batch of hits, of those from `least`."""
    kept = (revisions >= 0) & (scores >= least)
    found, at = np.unique(revisions[kept], return_inverse=True)
    best = np.full(len(found), -1.0, scores.dtype)
    np.maximum.at(best, at, scores[kept])
    return found, best
