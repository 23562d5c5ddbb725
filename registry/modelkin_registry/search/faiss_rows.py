"""One kind of rows of one segment in FAISS files: made, opened, searched. Imported, with FAISS, only where there is an index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np

from modelkin_registry.search import near_codes, ranking
from modelkin_registry.search.index_files import FAISS, LABELS, ROWS, DamagedIndexError, KindFiles, check_digest, digest_of, sync_file
from modelkin_registry.search.ranking import Shortlist
from modelkin_registry.search.screened_rows import RowsFile, screen, screening_index
from modelkin_registry.store.rows import CODE_BITS, ROW, SCORE_OF_DISTANCE, Array, TableRows, is_codes, numbers, row_bytes, sign_codes

THREADS = faiss.omp_get_max_threads()
PARALLEL_BYTES = 1 << 29  # bytes to look at from which threads pay: below, waiting for them costs more (30 ms a search on a busy machine)
SPARE = 16  # further rows fetched at first, for ties at the cut and rows to be passed over
# Rows fetched at first of sign codes, which have few different distances and so many ties at the cut: few questions are asked twice then.
CODES_FETCHED = 512
# float16 rows of one kind in a segment from which compressed ones are looked at first: below, exhaustive search costs as much
SCREENED_ROWS = 50_000
LABELS_AT_ONCE = 1 << 20  # rows whose revisions are looked through at once


class IndexedKind:
    """The files of one kind, mapped: nothing is read before it is searched. Never add to a mapped index: FAISS aborts the process."""

    def __init__(self, kind: str, folder: Path, files: KindFiles, codes: Array) -> None:
        """`codes` translates the files' component codes into the table's. Raises DamagedIndexError."""
        self._kind, self._codes, self._dims = kind, codes, files.dims
        paths = files.paths(folder)
        for ending, path in paths.items():
            check_digest(path, files.digests[ending])
        try:
            read: Any = faiss.read_index_binary if is_codes(kind) else faiss.read_index
            self._index: Any = read(str(paths[FAISS]), faiss.IO_FLAG_MMAP_IFC)
            self._labels = np.load(paths[LABELS], mmap_mode="r")
            self._rows = RowsFile(paths[ROWS], files.rows, row_bytes(kind, files.dims)) if ROWS in paths else None
            self._words = _codes_of(self._index) if is_codes(kind) and near_codes.CORE is not None else None
        except (EOFError, KeyError, OSError, RuntimeError, ValueError) as error:
            raise DamagedIndexError(f"{folder / files.stem} cannot be opened ({error})") from error
        width = CODE_BITS if is_codes(kind) else files.dims
        if not self._index.ntotal == len(self._labels) == files.rows or self._labels.dtype != ROW or self._index.d != width:
            raise DamagedIndexError(f"{folder / files.stem} does not hold the rows that the manifest says")
        if not set(np.unique(self._labels["component"]).tolist()) <= set(range(len(codes))):
            raise DamagedIndexError(f"{folder / files.stem} has rows of components that the manifest does not name")

    def labels(self) -> Array:
        """Each row's model, component (in the table's codes) and layer."""
        rows: Array = self._labels.copy()
        rows["component"] = self._codes[rows["component"]]
        return rows

    def shortlist(self, queries: Array, k: int, passed_over: Array, only: Array | None) -> Shortlist:
        """Every row that may be among a query's k nearest, without these revisions, and of `only` those where they are given.

        Of many float16 rows those that compressed ones find (screened_rows.py), with their exact scores; all are looked at where some
        revisions are asked for alone.
        """
        if self._words is not None:
            return self._by_codes(self._words, queries, k, passed_over, only)
        if self._rows is None:
            return self._exhaustive(queries, k, passed_over, only)
        if only is not None:
            return ranking.joined([ranking.shortlist(rows, queries, self._kind, k) for rows in self._chosen(passed_over, only)])
        self._use_threads(queries)
        query, positions, scores = screen(self._index, self._rows, queries, k, lambda at: self._live(at, passed_over))
        return ranking.pruned(self._told(query, positions, scores), k)

    def _chosen(self, passed_over: Array, only: Array) -> Iterable[TableRows]:
        """The rows of some revisions, a part of them at once."""
        assert self._rows is not None
        wanted = np.setdiff1d(only, passed_over)
        for start in range(0, len(self._labels), LABELS_AT_ONCE):
            positions = start + np.flatnonzero(np.isin(self._labels["revision"][start : start + LABELS_AT_ONCE], wanted))
            if len(positions):
                labels, data = self._labels[positions], self._rows.read(positions)
                yield TableRows(labels["revision"], self._codes[labels["component"]], labels["layer"], data)

    def _by_codes(self, codes: Array, queries: Array, k: int, passed_over: Array, only: Array | None) -> Shortlist:
        """All sign codes looked at by the compiled core; more kept where so many of them are passed over that others may be nearer."""
        chosen = None if only is None else np.isin(self._labels["revision"], only)
        most = len(codes) if chosen is None else int(chosen.sum())
        wanted, parts, pending, keep = sign_codes(queries), [], np.arange(len(queries) if most else 0), k + SPARE * bool(len(passed_over))
        while len(pending):
            keep = min(keep, most)
            query, positions, distances = near_codes.nearest_codes(codes, wanted[pending], keep, chosen, self._threads(queries))
            live = self._live(positions, passed_over)
            done = (np.bincount(query[live], minlength=len(pending)) >= k) | (keep == most)
            told = live & done[query]
            parts.append(self._told(pending[query[told]], positions[told], SCORE_OF_DISTANCE[distances[told]]))
            pending, keep = pending[~done], keep * 4
        return ranking.joined(parts)

    def _exhaustive(self, queries: Array, k: int, passed_over: Array, only: Array | None) -> Shortlist:
        """All rows looked at; more fetched until the cut is certain."""
        chosen, most = self._selector(only)
        if not most:
            return ranking.joined([])
        parts, pending, fetch = [], np.arange(len(queries)), max(k + SPARE, CODES_FETCHED if is_codes(self._kind) else 0)
        while len(pending):
            fetch = min(fetch, most)
            rough, positions = self._fetched(queries[pending], fetch, chosen)
            live = self._live(positions, passed_over)
            rough_live = np.where(live, rough, -np.inf)
            limit = ranking.cut(rough_live, k, kind=self._kind)
            done = (rough[:, -1:] < limit)[:, 0] | (fetch == most)
            query, column = np.nonzero(live & (rough_live >= limit) & done[:, None])
            parts.append(self._scored(queries, pending[query], positions[query, column], rough[query, column]))
            pending, fetch = pending[~done], fetch * 4
        return ranking.joined(parts)

    def _selector(self, only: Array | None) -> tuple[Any, int]:
        """What lets FAISS look at the rows of some revisions only, and how many those are."""
        if only is None:
            return None, len(self._labels)
        mask = np.isin(self._labels["revision"], only)
        bitmap, parameters = (
            cast(Any, faiss.IDSelectorBitmap),
            cast(Any, faiss.SearchParameters),
        )  # FAISS's stubs do not know its Python face
        return parameters(sel=bitmap(np.packbits(mask, bitorder="little"))), int(mask.sum())

    def _live(self, positions: Array, passed_over: Array) -> Array:
        return (positions >= 0) & ~np.isin(self._labels["revision"][positions], passed_over)

    def _threads(self, queries: Array) -> int:
        work = len(queries) * len(self._labels) * row_bytes(self._kind, queries.shape[1])
        return THREADS if work > PARALLEL_BYTES else 1

    def _use_threads(self, queries: Array) -> None:
        faiss.omp_set_num_threads(self._threads(queries))

    def _fetched(self, queries: Array, fetch: int, chosen: Any) -> tuple[Array, Array]:
        self._use_threads(queries)
        if is_codes(self._kind):
            distances, positions = self._index.search(sign_codes(queries), fetch, params=chosen)
            return -distances.astype(np.float32), positions
        scores, positions = self._index.search(queries, fetch, params=chosen)
        return scores, positions

    def _scored(self, queries: Array, query: Array, positions: Array, rough: Array) -> Shortlist:
        if is_codes(self._kind):
            scores = SCORE_OF_DISTANCE[-rough.astype(np.int64)]
        else:
            scores = ranking.exact_scores(lambda at: self._index.reconstruct_batch(positions[at]), queries, query)
        return self._told(query, positions, scores)

    def _told(self, query: Array, positions: Array, scores: Array) -> Shortlist:
        rows = self._labels[positions]
        return Shortlist(query, rows["revision"], self._codes[rows["component"]], rows["layer"], scores)


def _codes_of(index: Any) -> Array:
    """The sign codes that an index holds, uint8 (n, bytes), where they are mapped: valid for as long as the index is kept."""
    view: Array = faiss.rev_swig_ptr(index.xb.data(), index.ntotal * CODE_BITS // 8)
    return view.reshape(-1, CODE_BITS // 8)


def _flat(kind: str, dims: int) -> Any:
    if is_codes(kind):
        return faiss.IndexBinaryFlat(CODE_BITS)
    return faiss.IndexScalarQuantizer(dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


def build_kind(batches: Iterable[TableRows], folder: Path, stem: str, kind: str, dims: int) -> KindFiles | None:
    """The files of one kind from its rows, None where there are none."""
    labels, rows_file = [np.zeros(0, ROW)], folder / f"{stem}.{ROWS}"
    with rows_file.open("wb") as stream:
        for batch in batches:
            stream.write(batch.data.tobytes())
            labels.append(batch.labels())
    count = sum(map(len, labels))
    if not count:
        rows_file.unlink()
        return None
    files = {ending: folder / f"{stem}.{ending}" for ending in (FAISS, LABELS, ROWS)}
    np.save(files[LABELS], np.concatenate(labels))
    rows = RowsFile(rows_file, count, row_bytes(kind, dims))
    if not is_codes(kind) and count >= SCREENED_ROWS:
        faiss.write_index(screening_index(rows, dims), str(files[FAISS]))
    else:
        _write_flat(rows, files[FAISS], kind, dims)
        rows.close()
        files.pop(ROWS).unlink()
    for path in files.values():
        sync_file(path)
    return KindFiles(stem, dims, count, {ending: digest_of(path) for ending, path in files.items()})


def _write_flat(rows: RowsFile, path: Path, kind: str, dims: int) -> None:
    index = _flat(kind, dims)
    for part in rows.parts():
        index.add(part if is_codes(kind) else numbers(part))
    write: Any = faiss.write_index_binary if is_codes(kind) else faiss.write_index
    write(index, str(path))
