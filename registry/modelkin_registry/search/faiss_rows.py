"""One kind of rows in FAISS files: made, opened, searched. The only module that imports FAISS; imported where there is an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from modelkin_registry.search import ranking
from modelkin_registry.search.index_files import DamagedIndexError, KindFiles, check_digest, digest_of, sync_file
from modelkin_registry.search.ranking import Shortlist
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.rows import CODE_BITS, ROW, SCORE_OF_DISTANCE, Array, is_codes, numbers, row_bytes, sign_codes

THREADS = faiss.omp_get_max_threads()
PARALLEL_BYTES = 1 << 29  # bytes to look at from which threads pay: below, waiting for them costs more (30 ms a search on a busy machine)
SPARE = 16  # further rows fetched at first, for ties at the cut and rows to be passed over
# Rows fetched at first of sign codes, which have few different distances and so many ties at the cut: few questions are asked twice then.
CODES_FETCHED = 512


class IndexedKind:
    """The files of one kind, mapped: nothing is read before it is searched. Never add to a mapped index: FAISS aborts the process."""

    def __init__(self, kind: str, folder: Path, files: KindFiles, codes: Array) -> None:
        """`codes` translates the files' component codes into the table's. Raises DamagedIndexError."""
        self._kind, self._codes = kind, codes
        paths = folder / f"{files.stem}.faiss", folder / f"{files.stem}.npy"
        for path, digest in zip(paths, (files.faiss_digest, files.rows_digest), strict=True):
            check_digest(path, digest)
        try:
            read: Any = faiss.read_index_binary if is_codes(kind) else faiss.read_index
            self._index: Any = read(str(paths[0]), faiss.IO_FLAG_MMAP_IFC)
            self._rows = np.load(paths[1], mmap_mode="r")
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedIndexError(f"{paths[0]} cannot be opened ({error})") from error
        if not self._index.ntotal == len(self._rows) == files.rows or self._rows.dtype != ROW:
            raise DamagedIndexError(f"{paths[0]} does not hold the rows that the manifest says")

    def labels(self) -> Array:
        """Each row's model, component (in the table's codes) and layer."""
        rows: Array = self._rows.copy()
        rows["component"] = self._codes[rows["component"]]
        return rows

    def shortlist(self, queries: Array, k: int, changed: Array) -> Shortlist:
        """Every row that may be among a query's k nearest, `changed` revisions passed over. Fetches more until the cut is certain."""
        parts, pending, fetch = [], np.arange(len(queries)), max(k + SPARE, CODES_FETCHED if is_codes(self._kind) else 0)
        while len(pending):
            fetch = min(fetch, len(self._rows))
            rough, positions = self._fetched(queries[pending], fetch)
            live = ~np.isin(self._rows["revision"][positions], changed)
            rough_live = np.where(live, rough, -np.inf)
            limit = ranking.cut(rough_live, k, kind=self._kind)
            done = (rough[:, -1:] < limit)[:, 0] | (fetch == len(self._rows))
            query, column = np.nonzero(live & (rough_live >= limit) & done[:, None])
            parts.append(self._scored(queries, pending[query], positions[query, column], rough[query, column]))
            pending, fetch = pending[~done], fetch * 4
        return ranking.joined(parts)

    def _fetched(self, queries: Array, fetch: int) -> tuple[Array, Array]:
        work = len(queries) * len(self._rows) * row_bytes(self._kind, queries.shape[1])
        faiss.omp_set_num_threads(THREADS if work > PARALLEL_BYTES else 1)
        if is_codes(self._kind):
            distances, positions = self._index.search(sign_codes(queries), fetch)
            return -distances.astype(np.float32), positions
        scores, positions = self._index.search(queries, fetch)
        return scores, positions

    def _scored(self, queries: Array, query: Array, positions: Array, rough: Array) -> Shortlist:
        if is_codes(self._kind):
            scores = SCORE_OF_DISTANCE[-rough.astype(np.int64)]
        else:
            scores = ranking.exact_scores(lambda at: self._index.reconstruct_batch(positions[at]), queries, query)
        rows = self._rows[positions]
        return Shortlist(query, rows["revision"], self._codes[rows["component"]], rows["layer"], scores)


def _empty(kind: str, dims: int) -> Any:
    if is_codes(kind):
        return faiss.IndexBinaryFlat(CODE_BITS)
    return faiss.IndexScalarQuantizer(dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def build_kind(store: Store, folder: Path, stem: str, kind: str, dims: int) -> KindFiles | None:
    """The files of one kind, None where it has no rows."""
    index = _empty(kind, dims)
    labels = [np.zeros(0, ROW)]
    for rows in store.vectors.batches(kind, dims):
        index.add(rows.data if is_codes(kind) else numbers(rows.data))
        labels.append(rows.labels())
    if not index.ntotal:
        return None
    vectors, rows_file = folder / f"{stem}.faiss", folder / f"{stem}.npy"
    write: Any = faiss.write_index_binary if is_codes(kind) else faiss.write_index
    write(index, str(vectors))
    np.save(rows_file, np.concatenate(labels))
    for path in (vectors, rows_file):
        sync_file(path)
    return KindFiles(stem, dims, index.ntotal, digest_of(vectors), digest_of(rows_file))
