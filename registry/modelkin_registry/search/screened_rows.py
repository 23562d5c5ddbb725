"""Many float16 rows in two stages: a compressed copy of them is looked at first, and what it keeps is scored exactly.

The copy is RaBitQ (Gao and Long, SIGMOD 2024; FAISS's fast scan of it) with two bits a number, of rows turned at random: sketches leave
slots empty where a model has no such role, and an empty number's sign would say nothing. A row's estimated score is off by 0.3 of a
stranger's spread, so that of a million strangers the ten nearest are all among 2,000 kept; a relative stands out further. The copy takes an
eighth of the memory of the rows themselves, which stay on the disk; of them only the kept ones are read.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from modelkin_registry.search import ranking
from modelkin_registry.store.rows import Array, numbers

KEPT = 2000  # rows a question that are scored exactly: of 200,000 strangers all ten nearest are among them (screens.json)
SPARE_KEPT = 4  # times the nearest asked for that are kept at least
BITS = 2  # a number: with one 94 % of the ten nearest are among 2,000 kept, of signs 75 % (screens.json)
BLOCK = 32  # rows that the fast scan takes at once: FAISS's own default
TRAINED_ON = 1 << 14  # rows that tell the copy the middle of all
PART_ROWS = 1 << 14  # rows in memory at once while they are copied


class RowsFile:
    """Stored rows uint8 (n, bytes a row) in a file. A page is many rows, and none stays with the process once its row was read."""

    def __init__(self, path: Path, count: int, width: int) -> None:
        """Raises ValueError where the file has another size."""
        self._count, self._width = count, width
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self.close = weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size != count * width:
            self.close()
            raise ValueError(f"{path} has another size than {count} rows of {width} bytes")

    def read(self, positions: Array) -> Array:
        """The rows at these positions."""
        if not hasattr(mmap, "MADV_DONTNEED"):  # other systems than Linux would keep the pages
            found = b"".join([self._at(position, 1) for position in positions.tolist()])
            return np.frombuffer(found, np.uint8).reshape(-1, self._width)
        pages, rows = self._mapped
        copied: Array = rows[positions]
        pages.madvise(mmap.MADV_DONTNEED)
        return copied

    @cached_property
    def _mapped(self) -> tuple[mmap.mmap, Array]:
        pages = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        pages.madvise(mmap.MADV_RANDOM)
        return pages, np.frombuffer(pages, np.uint8).reshape(self._count, self._width)

    def parts(self) -> Iterator[Array]:
        """All rows, a part at once."""
        for start in range(0, self._count, PART_ROWS):
            yield np.frombuffer(self._at(start, min(PART_ROWS, self._count - start)), np.uint8).reshape(-1, self._width)

    def _at(self, position: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file, count * self._width, position * self._width)
        os.lseek(self._file, position * self._width, os.SEEK_SET)
        return os.read(self._file, count * self._width)


def screening_index(rows: RowsFile, dims: int) -> Any:
    """The compressed copy of float16 rows, made in FAISS."""
    copy = faiss.IndexRaBitQFastScan(dims, faiss.METRIC_INNER_PRODUCT, BLOCK, BITS)
    index = faiss.IndexPreTransform(faiss.RandomRotationMatrix(dims, dims), copy)
    for number, part in enumerate(rows.parts()):
        values = numbers(part)
        if not number:
            index.train(values[:TRAINED_ON])
        index.add(values)
    return index


def screen(index: Any, rows: RowsFile, queries: Array, k: int, live: Callable[[Array], Array]) -> tuple[Array, Array, Array]:
    """The kept rows of each query that are `live`: which query, ascending, their positions, and their exact scores.

    Of k nearest that are wanted SPARE_KEPT times as many are kept at least, and more where most of the kept ones live no longer: removed
    models that are near must not crowd out what is there.
    """
    count, keep = index.ntotal, max(KEPT, SPARE_KEPT * k)
    while True:
        _, positions = index.search(queries, min(keep, count))
        positions = np.sort(positions, axis=1)
        lives = live(positions)
        if keep >= count or int(lives.sum(axis=1).min()) >= keep // 2:
            break
        keep *= 4
    query, column = np.nonzero(lives)
    found = positions[query, column]
    scores = ranking.exact_scores(lambda at: numbers(rows.read(found[at])), queries, query)
    return query, found, scores
