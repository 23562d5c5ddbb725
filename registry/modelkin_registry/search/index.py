"""The vector index: FAISS search beside the registry, derived from it and made again whenever it is missing or wrong.

Without clusters or graphs, because the neighbours that matter (heavy continued training, single reused layers) sit at cosines of 0.3 to
0.5, where IVF and HNSW lose most of them. Every row is looked at; where a kind has many float16 rows, a compressed copy of them first.

The index grows by segments. Revisions changed since it was built (the tail) are searched in the store's table, and indexed rows of theirs
are passed over: an answer is always that of the registry as it is now. A long tail becomes a segment of its own, and takes in the segments
before it that are not much larger, so that they stay few, and a row is written again only each time that what it lies in has doubled.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from modelkin_indexer.errors import RegistryError
from modelkin_registry.search import ranking
from modelkin_registry.search.index_files import (
    DamagedIndexError,
    Manifest,
    Segment,
    locked,
    publish,
    read_manifest,
    sweep,
    sync_folder,
)
from modelkin_registry.search.ranking import Hits, Shortlist
from modelkin_registry.store.rows import ROW, Array, TableRows

if TYPE_CHECKING:
    from modelkin_registry.search.faiss_rows import IndexedKind
    from modelkin_registry.store.protocol import Store

logger = logging.getLogger(__name__)

TAIL_REVISIONS = 1024  # changed revisions that are searched in the table before they are indexed: as fast as importing FAISS
TAKEN_IN = 2  # times the revisions of a new segment that the one before it may have to be made one with it: n of them lie in log n segments
AT_ONCE = 1 << 14  # revisions of a segment that is made when a registry is opened, some 5 s; larger ones when it is brought up to date
TAIL_BYTES = 64 << 20  # rows of changed revisions kept in memory between searches
BUILD_WAIT_SECONDS = 600.0  # how long an asked-for rebuild waits for another process that builds


class VectorIndex:
    """Nearest rows of an open store. `open` it after the store and use it from the same thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = Path(f"{store.path}.index")
        self._manifest: Manifest | None = None
        self._damaged: Manifest | None = None  # what was given up, so that it is not taken over again
        self._kinds: dict[tuple[str, str], IndexedKind] = {}  # by folder and kind
        self._tails: dict[str, list[TableRows]] = {}
        self._changed: dict[int, Array] = {}
        self._tail_generation = -1

    @classmethod
    def open(cls, store: Store) -> Self:
        """The index of this store, built or rebuilt first where it is missing, damaged or too far behind."""
        index = cls(store)
        index._keep_up(AT_ONCE)
        return index

    @property
    def generation(self) -> int:
        """The change up to which rows are indexed; 0 without an index."""
        return self._manifest.generation if self._manifest else 0

    # searching

    def search(self, kind: str, queries: Array, k: int, only: Array | None = None) -> Hits:
        """The k nearest rows of one kind to each query, by inner product (layer/ kinds: by the angle that sign codes estimate).

        Args:
            kind: as in IndexRows; a kind that the registry lacks has no hits.
            queries: float32 (q, d), unit rows; rows of zeros get no hits.
            only: numbers of the revisions that are asked for; all where it is None.

        Raises:
            ValueError: queries of another size, or not unit vectors.
            RegistryError: trouble with the registry's file. Trouble with the index is mended, not raised.
        """
        self._load(kind)
        with self.store.reading():
            return self._ranked(kind, queries, k, only, self._indexed_and_tail)

    def search_exact(self, kind: str, queries: Array, k: int, only: Array | None = None) -> Hits:
        """The same answer without the index, by looking at every row of the store's table."""
        with self.store.reading():
            return self._ranked(kind, queries, k, only, self._whole_table)

    def _ranked(self, kind: str, queries: Array, k: int, only: Array | None, parts: Any) -> Hits:
        dims = self.store.vectors.kinds().get(kind)
        queries = ranking.checked(queries, kind, np.atleast_2d(queries).shape[-1] if dims is None else dims)
        found = list(parts(kind, dims, queries, k, only)) if dims is not None and len(queries) else []
        return ranking.ranked(found, queries, k, self.store.vectors.component_names())

    def _whole_table(self, kind: str, dims: int, queries: Array, k: int, only: Array | None) -> Iterator[Shortlist]:
        for rows in self.store.vectors.batches(kind, dims):
            yield from _searched(rows, queries, kind, k, only)

    def _indexed_and_tail(self, kind: str, dims: int, queries: Array, k: int, only: Array | None) -> Iterator[Shortlist]:
        for segment in self._segments:
            if (indexed := self._kinds.get((segment.folder, kind))) is not None:
                yield indexed.shortlist(queries, k, self._since(segment.generation), only)
        for rows in self._tail(kind, dims):
            yield from _searched(rows, queries, kind, k, only)

    def _since(self, generation: int) -> Array:
        """Revisions changed since a change, kept while nothing changes."""
        self._forget_former_tail()
        if generation not in self._changed:
            self._changed[generation] = np.array(self.store.changed(generation), np.int64)
        return self._changed[generation]

    def _forget_former_tail(self) -> None:
        if (now := self.store.generation()) != self._tail_generation:
            self._tails, self._changed, self._tail_generation = {}, {}, now

    def _tail(self, kind: str, dims: int) -> Iterator[TableRows]:
        """Rows of revisions changed since the index was built, kept while nothing changes and they are few."""
        self._forget_former_tail()
        if kind in self._tails:
            yield from self._tails[kind]
            return
        kept: list[TableRows] | None = []
        for rows in self.store.vectors.batches(kind, dims, since=self.generation):
            yield rows
            if kept is not None:
                kept = [*kept, rows] if sum(part.data.nbytes for part in [*kept, rows]) <= TAIL_BYTES else None
        if kept is not None:
            self._tails[kind] = kept

    def among(self, revisions: Collection[int] | None) -> VectorIndex | Among:
        """The index asked for these revisions alone; for all of them where there are none given."""
        return self if revisions is None else Among(self, np.array(sorted(revisions), np.int64))

    def models_of(self, revisions: Iterable[int]) -> Mapping[int, int]:
        """The models that revisions are of."""
        return self.store.models_of(revisions)

    # keeping up

    def refresh(self) -> None:
        """Take over the newest index on disk, and index what has changed since if that is much. Call after adding many models."""
        self._keep_up(None)

    def _keep_up(self, most: int | None) -> None:
        """`refresh`, by segments of at most so many revisions apart from the first one."""
        try:
            self._take_over(read_manifest(self.root))
        except DamagedIndexError as error:
            self._give_up(error)
        if self._may_build and len(self.store.changed(self.generation)) > TAIL_REVISIONS:
            self._try_to_build(most)

    def rebuild(self) -> None:
        """Build the index from the store's rows now, as one segment.

        Raises:
            RegistryError: the folder cannot be written, or another process keeps building.
        """
        if not self.store.may_be_indexed:
            raise RegistryError(f"{self.root}: the registry may not be written, so no index is built. Check the permissions of its folder.")
        if self.store.in_transaction:
            raise RegistryError(f"{self.root}: an index is not built inside an unfinished change. Finish it first.")
        try:
            if not self._build(BUILD_WAIT_SECONDS, lambda: 0):
                raise RegistryError(
                    f"{self.root}: another process has been building the index for {BUILD_WAIT_SECONDS:.0f} s. Try again later."
                )
        except (OSError, RuntimeError) as error:
            raise RegistryError(f"{self.root}: the index cannot be written ({error}). Check free space and permissions.") from error

    @property
    def _may_build(self) -> bool:
        return self.store.may_be_indexed and not self.store.in_transaction

    def _give_up(self, error: DamagedIndexError) -> None:
        remedy = "is built anew" if self.store.may_be_indexed else "cannot be used"
        logger.warning("The vector index %s: %s.", remedy, error)
        self._damaged = self._manifest
        self._take_over(None)

    @property
    def _segments(self) -> tuple[Segment, ...]:
        return self._manifest.segments if self._manifest else ()

    def _take_over(self, manifest: Manifest | None) -> None:
        if manifest is not None and (reason := self._stranger(manifest)):
            raise DamagedIndexError(reason)
        if manifest != self._manifest:
            self._manifest, self._tail_generation = manifest, -1
            folders = manifest.folders if manifest else frozenset()
            self._kinds = {at: indexed for at, indexed in self._kinds.items() if at[0] in folders}

    def _stranger(self, manifest: Manifest) -> str:
        """Why this index is not of this registry's past ("" if it is): another registry, or one set back to an older state."""
        if manifest.registry != self.store.registry_id:
            return "it belongs to another registry"
        for last in manifest.segments[-1:]:
            if last.generation and [(change.seq, change.at) for change in self.store.changes(last.generation - 1)[:1]] != [
                (last.generation, last.at)
            ]:
                return "the registry was set back to an older state"
        return ""

    def _try_to_build(self, most: int | None) -> None:
        try:
            self._build(0, lambda: self._start(most))  # if another process is at it, the table answers until it is done
        except (OSError, RuntimeError) as error:
            logger.warning("The vector index cannot be written; searches go on without (%s).", error)

    def _start(self, most: int | None) -> int:
        """From which change on a new segment takes everything: it takes in the segments not much larger than what comes after them."""
        count, start = len(self.store.changed(self.generation)), self.generation
        for segment in reversed(self._segments):
            if segment.revisions > TAKEN_IN * count or (most is not None and count + segment.revisions > most):
                break
            count, start = count + segment.revisions, segment.after
        return start

    def _build(self, wait_seconds: float, start: Callable[[], int]) -> bool:
        """Index everything that changed after the change which `start` gives once no other process builds; False where one does."""
        with locked(self.root, wait_seconds) as held:
            if held:
                with suppress(DamagedIndexError):  # another process may have built meanwhile
                    if (newest := read_manifest(self.root)) != self._damaged:
                        self._take_over(newest)
                after = start()
                kept = tuple(segment for segment in self._segments if segment.after < after)
                segment = _build_segment(self.store, self.root, after)
                manifest = Manifest(self.store.registry_id, (*kept, segment))
                publish(self.root, manifest)
                sweep(self.root, manifest.folders)
                self._take_over(manifest)
            return held

    def _load(self, kind: str) -> None:
        """Have the kind's files open; damaged ones are replaced, and if they stay so the table is searched."""
        for is_last in (False, True):  # the second time with what was just built
            try:
                for segment in self._segments:
                    if kind in segment.kinds and (segment.folder, kind) not in self._kinds:
                        self._kinds[segment.folder, kind] = self._opened(segment, kind)
            except DamagedIndexError as error:
                if self._superseded():
                    continue
                self._give_up(error)
                if self._may_build and not is_last:
                    self._try_to_build(None)
            else:
                return
        self._take_over(None)

    def _superseded(self) -> bool:
        """Whether another process put a newer generation in place, and with it removed the files of ours; then that one is taken over."""
        former = self._manifest
        try:
            self._take_over(read_manifest(self.root))
        except DamagedIndexError:
            return False
        return self._manifest != former

    def _opened(self, segment: Segment, kind: str) -> IndexedKind:
        from modelkin_registry.search.faiss_rows import IndexedKind  # with FAISS, which a registry without an index can do without

        codes = np.array([self.store.vectors.component_code(name) for name in segment.components], np.int16)
        return IndexedKind(kind, self.root / segment.folder, segment.kinds[kind], codes)

    # checking

    def check(self) -> list[str]:
        """What is wrong with the index on disk; nothing, if it is sound or not built yet. Reads every byte of it."""
        try:
            manifest = read_manifest(self.root)
            if manifest is None:
                return []
            if reason := self._stranger(manifest):
                return [f"{self.root}: {reason}"]
        except DamagedIndexError as error:
            return [str(error)]
        with self.store.reading():
            kinds = self.store.vectors.kinds()
            return [problem for kind, dims in kinds.items() if (problem := self._kind_problem(manifest, kind, dims))]

    def _kind_problem(self, manifest: Manifest, kind: str, dims: int) -> str:
        """Whether the kind's files are sound and hold just the table's rows, revisions changed since left out."""
        held = [np.zeros(0, ROW)]
        try:
            for segment in manifest.segments:
                if kind in segment.kinds:
                    rows = self._opened(segment, kind).labels()
                    held.append(rows[~np.isin(rows["revision"], self.store.changed(segment.generation))])
        except DamagedIndexError as error:
            return str(error)
        parts = [rows.labels() for rows in self.store.vectors.batches(kind, dims)]
        wanted = np.concatenate([np.zeros(0, ROW), *parts])
        wanted = wanted[~np.isin(wanted["revision"], self.store.changed(manifest.generation))]
        found = np.concatenate(held)
        found = found[np.argsort(found["revision"], kind="stable")]
        return "" if np.array_equal(found, wanted) else f"{self.root}: rows of kind {kind!r} are not those of the registry"


class Among:
    """An index asked for some revisions alone."""

    def __init__(self, index: VectorIndex, revisions: Array) -> None:
        self._index, self._revisions = index, revisions
        self.models_of = index.models_of

    def search(self, kind: str, queries: Array, k: int) -> Hits:
        """As of the whole index."""
        return self._index.search(kind, queries, k, self._revisions)

    def search_exact(self, kind: str, queries: Array, k: int) -> Hits:
        """As of the whole index."""
        return self._index.search_exact(kind, queries, k, self._revisions)


def _searched(rows: TableRows, queries: Array, kind: str, k: int, only: Array | None) -> Iterator[Shortlist]:
    """The shortlist of rows of the table, of `only` those revisions; none where there are no rows of theirs."""
    if only is not None:
        rows = rows.of(np.isin(rows.revisions, only))
    if len(rows):
        yield ranking.shortlist(rows, queries, kind, k)


def _build_segment(store: Store, root: Path, after: int) -> Segment:
    """Write the rows of all revisions changed after a change as they are now. Call under the lock."""
    from modelkin_registry.search.faiss_rows import build_kind  # with FAISS, as above

    with store.reading():
        generation = store.generation()
        folder = root / f"{generation}-{os.urandom(4).hex()}"
        folder.mkdir()
        kinds = {
            kind: build_kind(store.vectors.batches(kind, dims, since=after), folder, str(number), kind, dims)
            for number, (kind, dims) in enumerate(store.vectors.kinds().items())
        }
        at = store.changes(generation - 1)[0].at if generation else ""
        revisions = len(store.changed(after)) if after else store.count_revisions()
        components = tuple(map(str, store.vectors.component_names()))
    sync_folder(folder)
    return Segment(folder.name, after, generation, at, revisions, components, {kind: files for kind, files in kinds.items() if files})
