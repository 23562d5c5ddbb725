"""What could be looked at first of many rows: how much of the nearest each compressed form keeps, and what a question costs.

    python -m benchmarks.scale.screens [--rows 1000000] [--dims 512]

Rows are independent unit vectors, whose nearest are the hardest to keep apart: a relative stands out of them. Forms: RaBitQ with one and
two bits a number (FAISS's fast scan), signs with Hamming distance. Held against the rows themselves. Seconds are of one thread. Writes
results/screens.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benchmarks.common.results import write_result

Array = npt.NDArray[Any]
QUERIES, FAR = 20, 0.3  # questions, each a copy of a row at this cosine
KEPT = (1000, 2000, 5000)
NEAREST = (10, 256)
PART = 1 << 16


def units(random: np.random.Generator, count: int, dims: int) -> Array:
    """Independent unit vectors."""
    values = random.standard_normal((count, dims), np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def rabitq(dims: int, bits: int) -> Any:
    """RaBitQ with so many bits a number."""
    return faiss.IndexRaBitQFastScan(dims, faiss.METRIC_INNER_PRODUCT, 32, bits)


def measure(index: Any, rows: Array, queries: Array, nearest: Array, right: Array, *, signs: bool = False) -> dict[str, Any]:
    """Seconds to build, bytes a row, and by number kept the cost of a question and what of the nearest is among them."""
    form: Callable[[Array], Array] = (lambda values: np.packbits(values > 0, axis=1)) if signs else (lambda values: values)
    began = time.process_time()
    if not signs:
        index.train(rows[:PART])
    for start in range(0, len(rows), PART):
        index.add(form(rows[start : start + PART]))
    found: dict[str, Any] = {"build_cpu_seconds": time.process_time() - began}
    for kept in KEPT:
        began = time.process_time()
        hits = [index.search(form(query[None]), kept)[1][0] for query in queries]
        told: dict[str, float] = {"cpu_ms": (time.process_time() - began) * 1000 / len(queries)}
        for count in NEAREST:
            told[f"of_{count}_nearest"] = float(np.mean([len(set(a) & set(b[:count])) / count for a, b in zip(hits, nearest, strict=True)]))
        told["right"] = float(np.mean([at in hit for at, hit in zip(right, hits, strict=True)]))
        found[str(kept)] = told
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(1)
    rows = units(random, given.rows, given.dims)
    right = random.choice(given.rows, QUERIES, replace=False)
    queries = FAR * rows[right] + np.float32(np.sqrt(1 - FAR**2)) * units(random, QUERIES, given.dims)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    exact = faiss.IndexScalarQuantizer(given.dims, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for start in range(0, len(rows), PART):
        exact.add(rows[start : start + PART])
    began = time.process_time()
    nearest = np.array([exact.search(query[None], max(NEAREST))[1][0] for query in queries])
    found: dict[str, Any] = {"rows": given.rows, "dims": given.dims, "queries": QUERIES, "cosine": FAR}
    found["exhaustive_cpu_ms"] = (time.process_time() - began) * 1000 / QUERIES
    del exact
    found["forms"] = {
        "RaBitQ, 1 bit": measure(rabitq(given.dims, 1), rows, queries, nearest, right),
        "RaBitQ, 2 bits": measure(rabitq(given.dims, 2), rows, queries, nearest, right),
        "signs": measure(faiss.IndexBinaryFlat(given.dims), rows, queries, nearest, right, signs=True),
    }
    write_result("screens", found, out=given.out)


if __name__ == "__main__":
    main()
