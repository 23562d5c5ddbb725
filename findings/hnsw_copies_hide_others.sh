#!/usr/bin/env bash
# Many copies of one vector in an HNSW index hide the vectors beside them: a search with the very vector does not find it.
#
# Versions: faiss-cpu 1.15.1, hnswlib 0.8.0, usearch 2.26.6, voyager 2.2.3, numpy 2.4.6, one thread each.
# A good guess: copies are the easy case: each is found or its equal is, and what is no copy is found as before.
# Seen: a vector has links to its few dozen nearest, and copies spend them on each other. With 3000 copies among 3200 vectors in
# random order a third to all of the 200 others are not found by a search with themselves (k = 1, ef 100), in each of four
# libraries; with 1000 copies a part is missing; without copies all are found. So re-uploads in a collection, or rows of zeros, do
# not just take places in an answer: they make strangers unreachable. Equal vectors should be one entry.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile faiss-cpu==1.15.1 hnswlib==0.8.0 usearch==2.26.6 voyager==2.2.3 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import hnswlib
import numpy as np
import voyager
from usearch.index import Index


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


WIDTH = 16
faiss.omp_set_num_threads(1)


def found(copies, others):
    """The share of the others that a search with themselves gives back, by library."""
    rng = np.random.default_rng(0)
    copy, other = rng.standard_normal((1, WIDTH)), rng.standard_normal((others, WIDTH)).astype(np.float32)
    x = rng.permutation(np.vstack([np.repeat(copy, copies, 0).astype(np.float32), other]))
    a = hnswlib.Index("l2", WIDTH)
    a.init_index(len(x), random_seed=100)
    a.add_items(x, num_threads=1)
    a.set_ef(100)
    b = faiss.IndexHNSWFlat(WIDTH, 32)
    b.hnsw.efSearch = 100
    b.add(x)
    c = Index(ndim=WIDTH, metric="l2sq", dtype="f32", expansion_search=100)
    c.add(np.arange(len(x)), x, threads=1)
    d = voyager.Index(voyager.Space.Euclidean, num_dimensions=WIDTH, random_seed=1)
    d.add_items(x, num_threads=1)
    rows = {
        "hnswlib": a.knn_query(other, 1, num_threads=1)[0],
        "faiss": b.search(other, 1)[1],
        "usearch": c.search(other, 1, threads=1).keys,
        "voyager": d.query(other, 1, query_ef=100, num_threads=1)[0],
    }
    return {name: round(float(np.mean(np.all(x[np.asarray(row).ravel().astype(int)] == other, 1))), 2) for name, row in rows.items()}


seen = found(0, 3200)
check("share found without copies", 1.0, seen, min(seen.values()) > 0.99)
seen = found(1000, 2200)
check("share found of 2200 beside 1000 copies of one", 1.0, seen, min(seen.values()) < 0.95)
seen = found(3000, 200)
check("share found of 200 beside 3000 copies of one", 1.0, seen, max(seen.values()) < 0.9)
PY
cd "$work"
venv/bin/python check.py
