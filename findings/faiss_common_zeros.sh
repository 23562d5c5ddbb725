#!/usr/bin/env bash
# With Canberra or Jensen-Shannon distances FAISS does not find a vector that shares a zero with the query, nor the query itself.
#
# Versions: faiss-cpu 1.15.1, scipy 1.17.1, numpy 2.4.6.
# A good guess: a term of 0/0 or 0 log 0 counts as 0, as SciPy has it, so that a vector is at 0 from itself.
# Seen: the term is NaN, so is the distance, and NaN is never among the nearest: the row is answered as -1 with the largest float, as if
# the index were empty. Canberra still finds rows that have no zero where the query has one, Jensen-Shannon not even these.
# Histograms, counts and sparse weights are such vectors. Bray-Curtis and Jaccard drop zeros against zeros only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile faiss-cpu==1.15.1 scipy==1.17.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import numpy as np
from scipy.spatial import distance


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.array([[0, 0.25, 0.75, 0], [0.1, 0.3, 0.5, 0.1], [0, 0.5, 0.5, 0]], np.float32)
for name, by_scipy, still in [("Canberra", distance.canberra, [1, -1, -1]), ("JensenShannon", distance.jensenshannon, [-1, -1, -1])]:
    index = faiss.IndexFlat(4, getattr(faiss, f"METRIC_{name}"))
    index.add(x)
    order = sorted(range(3), key=lambda i: by_scipy(x[0], x[i]))
    seen = index.search(x[:1], 3)[1][0].tolist()
    check(f"{name}: rows nearest to row 0, which has zeros as row 2 has", order, seen, order[0] == 0 and seen == still)
for name in ("BrayCurtis", "Jaccard"):
    index = faiss.IndexFlat(4, getattr(faiss, f"METRIC_{name}"))
    index.add(np.zeros((1, 4), np.float32))
    seen = index.search(np.zeros((1, 4), np.float32), 1)[1][0].tolist()
    check(f"{name}: zeros asked for zeros", [0], seen, seen == [-1])
PY
cd "$work"
venv/bin/python check.py
