"""The vector index: exhaustive FAISS search beside the registry, derived from it and made again whenever it is missing or wrong.

Exhaustive, because the neighbours that matter (heavy continued training, single reused layers) sit at cosines of 0.3 to 0.5, where
IVF and HNSW lose most of them. Revisions changed since the index was built (the tail) are searched in the store's table, and indexed
rows of theirs are passed over: an answer is always that of the registry as it is now.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from modelkin_indexer.errors import RegistryError
from modelkin_registry.search import ranking
from modelkin_registry.search.index_files import (
    DamagedIndexError,
    Manifest,
    locked,
    publish,
    read_manifest,
    sweep,
    sync_folder,
)
from modelkin_registry.search.ranking import Hits, Shortlist
from modelkin_registry.store.protocol import Store
from modelkin_registry.store.rows import ROW, Array, TableRows

if TYPE_CHECKING:
    from modelkin_registry.search.faiss_rows import IndexedKind

logger = logging.getLogger(__name__)

TAIL_REVISIONS = 1024  # changed revisions that are searched in the table before an index is (re)built: as fast as importing FAISS
TAIL_SHARE = 0.1  # the same as a share of the indexed revisions, so that building stays a tenth of the work in a large registry
TAIL_BYTES = 64 << 20  # rows of changed revisions kept in memory between searches
BUILD_WAIT_SECONDS = 600.0  # how long an asked-for rebuild waits for another process that builds


class VectorIndex:
    """Nearest rows of an open store. `open` it after the store and use it from the same thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = Path(f"{store.path}.index")
        self._manifest: Manifest | None = None
        self._kinds: dict[str, IndexedKind] = {}
        self._tails: dict[str, list[TableRows]] = {}
        self._tail_generation = -1

    @classmethod
    def open(cls, store: Store) -> Self:
        """The index of this store, built or rebuilt first where it is missing, damaged or too far behind."""
        index = cls(store)
        index.refresh()
        return index

    @property
    def generation(self) -> int:
        """The change up to which rows are indexed; 0 without an index."""
        return self._manifest.generation if self._manifest else 0

    # searching

    def search(self, kind: str, queries: Array, k: int) -> Hits:
        """The k nearest rows of one kind to each query, by inner product (layer/ kinds: by the angle that sign codes estimate).

        Args:
            kind: as in IndexRows; a kind that the registry lacks has no hits.
            queries: float32 (q, d), unit rows; rows of zeros get no hits.

        Raises:
            ValueError: queries of another size, or not unit vectors.
            RegistryError: trouble with the registry's file. Trouble with the index is mended, not raised.
        """
        self._load(kind)
        with self.store.reading():
            return self._ranked(kind, queries, k, self._indexed_and_tail)

    def search_exact(self, kind: str, queries: Array, k: int) -> Hits:
        """The same answer without the index, by looking at every row of the store's table."""
        with self.store.reading():
            return self._ranked(kind, queries, k, self._whole_table)

    def _ranked(self, kind: str, queries: Array, k: int, parts: Any) -> Hits:
        dims = self.store.vectors.kinds().get(kind)
        queries = ranking.checked(queries, kind, np.atleast_2d(queries).shape[-1] if dims is None else dims)
        found = list(parts(kind, dims, queries, k)) if dims is not None and len(queries) else []
        return ranking.ranked(found, queries, k, self.store.vectors.component_names())

    def _whole_table(self, kind: str, dims: int, queries: Array, k: int) -> Iterator[Shortlist]:
        for rows in self.store.vectors.batches(kind, dims):
            yield ranking.shortlist(rows, queries, kind, k)

    def _indexed_and_tail(self, kind: str, dims: int, queries: Array, k: int) -> Iterator[Shortlist]:
        changed = np.array(self.store.changed(self.generation), np.int64)
        if kind in self._kinds:
            yield self._kinds[kind].shortlist(queries, k, changed)
        for rows in self._tail(kind, dims):
            yield ranking.shortlist(rows, queries, kind, k)

    def _tail(self, kind: str, dims: int) -> Iterator[TableRows]:
        """Rows of revisions changed since the index was built, kept while nothing changes and they are few."""
        if (now := self.store.generation()) != self._tail_generation:
            self._tails, self._tail_generation = {}, now
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

    def models_of(self, revisions: Iterable[int]) -> Mapping[int, int]:
        """The models that revisions are of."""
        return self.store.models_of(revisions)

    # keeping up

    def refresh(self) -> None:
        """Take over the newest index on disk, and build one if too much has changed since. Call after adding many models."""
        try:
            self._take_over(read_manifest(self.root))
        except DamagedIndexError as error:
            self._give_up(error)
        if self._may_build and self._tail_is_long():
            self._try_to_build()

    def rebuild(self) -> None:
        """Build the index from the store's rows now.

        Raises:
            RegistryError: the folder cannot be written, or another process keeps building.
        """
        if not self.store.may_be_indexed:
            raise RegistryError(f"{self.root}: the registry may not be written, so no index is built. Check the permissions of its folder.")
        if self.store.in_transaction:
            raise RegistryError(f"{self.root}: an index is not built inside an unfinished change. Finish it first.")
        try:
            if not self._build(BUILD_WAIT_SECONDS):
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
        self._take_over(None)

    def _take_over(self, manifest: Manifest | None) -> None:
        if manifest is not None and (reason := self._stranger(manifest)):
            raise DamagedIndexError(reason)
        if manifest != self._manifest:
            self._manifest, self._kinds = manifest, {}
            self._tail_generation = -1

    def _stranger(self, manifest: Manifest) -> str:
        """Why this index is not of this registry's past ("" if it is): another registry, or one set back to an older state."""
        if manifest.registry != self.store.registry_id:
            return "it belongs to another registry"
        if manifest.generation and [(change.seq, change.at) for change in self.store.changes(manifest.generation - 1)[:1]] != [
            (manifest.generation, manifest.at)
        ]:
            return "the registry was set back to an older state"
        return ""

    def _tail_is_long(self) -> bool:
        revisions = self._manifest.revisions if self._manifest else 0
        return len(self.store.changed(self.generation)) > max(TAIL_REVISIONS, TAIL_SHARE * revisions)

    def _try_to_build(self) -> None:
        try:
            self._build(0)  # if another process is at it, the table answers until it is done
        except (OSError, RuntimeError) as error:
            logger.warning("The vector index cannot be written; searches go on without (%s).", error)

    def _build(self, wait_seconds: float) -> bool:
        with locked(self.root, wait_seconds) as held:
            if held:
                manifest = _build_generation(self.store, self.root)
                sweep(self.root, manifest.folder)
                self._take_over(manifest)
            return held

    def _load(self, kind: str) -> None:
        """Have the kind's files open; damaged ones are replaced, and if that cannot be, done without."""
        for _ in range(2):  # the second time with what was just built
            if self._manifest is None or kind in self._kinds or kind not in self._manifest.kinds:
                return
            try:
                self._kinds[kind] = self._opened(self._manifest, kind)
            except DamagedIndexError as error:
                if self._superseded():
                    continue
                self._give_up(error)
                if self._may_build:
                    self._try_to_build()

    def _superseded(self) -> bool:
        """Whether another process put a newer generation in place, and with it removed the files of ours; then that one is taken over."""
        former = self._manifest
        try:
            self._take_over(read_manifest(self.root))
        except DamagedIndexError:
            return False
        return self._manifest != former

    def _opened(self, manifest: Manifest, kind: str) -> IndexedKind:
        from modelkin_registry.search.faiss_rows import IndexedKind  # with FAISS, which a registry without an index can do without

        codes = np.array([self.store.vectors.component_code(name) for name in manifest.components], np.int16)
        return IndexedKind(kind, self.root / manifest.folder, manifest.kinds[kind], codes)

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
            changed = np.array(self.store.changed(manifest.generation), np.int64)
            kinds = self.store.vectors.kinds()
            return [problem for kind, dims in kinds.items() if (problem := self._kind_problem(manifest, kind, dims, changed))]

    def _kind_problem(self, manifest: Manifest, kind: str, dims: int, changed: Array) -> str:
        """Whether the kind's files are sound and hold just the table's rows, revisions changed since left out."""
        held = np.zeros(0, ROW)
        try:
            if kind in manifest.kinds:
                held = self._opened(manifest, kind).labels()
        except DamagedIndexError as error:
            return str(error)
        parts = [rows.labels() for rows in self.store.vectors.batches(kind, dims)]
        wanted = np.concatenate([np.zeros(0, ROW), *parts])
        held, wanted = (rows[~np.isin(rows["revision"], changed)] for rows in (held, wanted))
        return "" if np.array_equal(held, wanted) else f"{self.root}: rows of kind {kind!r} are not those of the registry"


def _build_generation(store: Store, root: Path) -> Manifest:
    """Write the index of the store as it is now and make it the current one. Call under the lock."""
    from modelkin_registry.search.faiss_rows import build_kind  # with FAISS, as above

    with store.reading():
        generation = store.generation()
        folder = root / f"{generation}-{secrets.token_hex(4)}"
        folder.mkdir()
        kinds = {
            kind: build_kind(store, folder, str(number), kind, dims) for number, (kind, dims) in enumerate(store.vectors.kinds().items())
        }
        at = store.changes(generation - 1)[0].at if generation else ""
        revisions, components = store.count_revisions(), tuple(map(str, store.vectors.component_names()))
    sync_folder(folder)
    manifest = Manifest(
        store.registry_id, generation, at, revisions, folder.name, components, {kind: files for kind, files in kinds.items() if files}
    )
    publish(root, manifest)
    return manifest
