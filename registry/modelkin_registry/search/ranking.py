"""Nearest rows, exactly: the one arithmetic that indexed rows and rows still in the table share, so that both give the same scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct

from modelkin_registry.store.rows import SCORE_OF_DISTANCE, UNIT_TOLERANCE, Array, TableRows, hamming, is_codes, sign_codes

# How much a float32 inner product may be off: rows this close to the k-th best are scored again in float64 before the cut.
# 17 times the largest error seen, FAISS and numpy, up to the longest row allowed (6e-7 at 16384 numbers); a test holds a quarter.
SCORE_MARGIN = 1e-5
COLUMNS = ("queries", "revisions", "components", "layers", "scores")  # of a Shortlist
CACHED = 256  # pairs of rows whose product is taken at once: a few megabytes


class Hits(Struct, frozen=True):
    """The k nearest rows of each query, best first, ties by revision, component and layer. Places without a hit: revision -1, score -inf.

    revisions int64, components str, layers int64, scores float32; all (queries, k)
    """

    revisions: Array
    components: Array
    layers: Array
    scores: Array


class Shortlist(Struct, frozen=True):
    """Rows that may be among the k nearest of a query: flat columns of one length, `queries` counts queries."""

    queries: Array
    revisions: Array
    components: Array
    layers: Array
    scores: Array


def checked(queries: Array, kind: str, dims: int) -> Array:
    """Queries as float32 (q, dims).

    Raises:
        ValueError: another shape, or rows that are neither unit vectors nor zero.
    """
    values = np.ascontiguousarray(queries, np.float32)
    if values.ndim != 2 or values.shape[1] != dims:
        raise ValueError(f"queries of kind {kind!r} have shape {values.shape}, in this registry rows have {dims} numbers")
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    if not np.all((lengths == 0) | (np.abs(lengths - 1) <= UNIT_TOLERANCE)):
        raise ValueError(f"queries of kind {kind!r} must be unit vectors or zero")
    return values


def shortlist(rows: TableRows, queries: Array, kind: str, k: int) -> Shortlist:
    """Every row that may be among the k nearest, by looking at all of them."""
    values = rows.data if is_codes(kind) else rows.numbers
    rough = -hamming(sign_codes(queries), values) if is_codes(kind) else queries @ values.T
    near = rough >= cut(rough, k, kind=kind)
    query, position = np.nonzero(near)
    scores = SCORE_OF_DISTANCE[-rough[near]] if is_codes(kind) else exact_scores(lambda at: values[position[at]], queries, query)
    return Shortlist(query, rows.revisions[position], rows.components[position], rows.layers[position], scores)


def cut(rough: Array, k: int, *, kind: str) -> Array:
    """The rough score (q, 1) from which on a row may still be among the k best of scores (q, n): all, if there are fewer."""
    last = rough.shape[1] - k
    if last <= 0:
        return np.asarray(rough.min(axis=1, keepdims=True))
    kth = np.partition(rough, last, axis=1)[:, last, None]
    return kth if is_codes(kind) else kth - np.float32(SCORE_MARGIN)


def exact_scores(rows: Callable[[slice], Array], queries: Array, query: Array) -> Array:
    """Inner products of pairs, summed in float64: float32 (n,), the same wherever the row came from.

    Args:
        rows: gives the rows (n, d) of a slice of the pairs; it is asked for few at once, which stay in the processor's cache.
        queries: (q, d).
        query: (n,) which query each row is held against, ascending.
    """
    products = np.empty(len(query), np.float32)
    bounds = np.append(np.flatnonzero(np.diff(query, prepend=-1)), len(query)).tolist()
    for first, last in pairwise(bounds):
        wanted = queries[query[first]].astype(np.float64)
        for start in range(first, last, CACHED):
            at = slice(start, min(start + CACHED, last))
            products[at] = np.einsum("nd,d->n", rows(at).astype(np.float64), wanted)
    return products


def ranked(shortlists: Sequence[Shortlist], queries: Array, k: int, names: Array) -> Hits:
    """The k best of all shortlists. A query of zeros asks nothing and gets nothing. `names` are the components by code."""
    asked = np.any(queries != 0, axis=1)
    found = joined(shortlists)
    order = np.lexsort((found.layers, names[found.components], found.revisions, -found.scores, found.queries))
    order = order[asked[found.queries[order]]]
    query = found.queries[order]
    rank = np.arange(len(order)) - np.searchsorted(query, query)
    order, query, rank = (column[rank < k] for column in (order, query, rank))
    return Hits(
        _spread(found.revisions[order], query, rank, np.full((len(queries), k), -1, np.int64)),
        _spread(names[found.components[order]], query, rank, np.full((len(queries), k), "", names.dtype)),
        _spread(found.layers[order], query, rank, np.full((len(queries), k), -1, np.int64)),
        _spread(found.scores[order], query, rank, np.full((len(queries), k), -np.inf, np.float32)),
    )


def pruned(found: Shortlist, k: int) -> Shortlist:
    """Without the rows that are not among the k best of their query, given in the order of the queries with their exact scores."""
    best = np.ones(len(found.queries), bool)
    bounds = np.append(np.flatnonzero(np.diff(found.queries, prepend=-1)), len(found.queries)).tolist()
    for first, last in pairwise(bounds):
        if last - first > k:
            scores = found.scores[first:last]
            best[first:last] = scores >= np.partition(scores, last - first - k)[last - first - k]
    return Shortlist(*(getattr(found, column)[best] for column in COLUMNS))


def joined(shortlists: Sequence[Shortlist]) -> Shortlist:
    """One shortlist of all."""
    if not shortlists:
        nothing = np.zeros(0, np.int64)
        return Shortlist(nothing, nothing, nothing, nothing, nothing.astype(np.float32))
    return Shortlist(*(np.concatenate([getattr(part, column) for part in shortlists]) for column in COLUMNS))


def _spread(values: Array, query: Array, rank: Array, blank: Array) -> Array:
    blank[query, rank] = values
    return blank
