#!/usr/bin/env bash
# faiss.rand gives the same numbers at every call, so that random queries are the very rows of the random base.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: rand, randn and randint draw on, as their namesakes in NumPy do: two calls give two samples.
# Seen: each call starts from the seed 12345 unless given one, so two calls of one size are equal: a base and queries made that way are row
# for row the same, each query finds its own at distance 0, and an index's recall is that of vectors that are in it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile faiss-cpu==1.15.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import faiss
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for name in ("rand", "randn", "randint"):
    first, second = (getattr(faiss, name)(1000) for _ in range(2))
    seen = bool(np.array_equal(first, second))
    check(f"two calls of faiss.{name}(1000) are equal", False, seen, seen)
base, queries = faiss.rand((1000, 16)), faiss.rand((1000, 16))
index = faiss.IndexFlatL2(16)
index.add(base)
distances, found = index.search(queries, 1)
seen = bool(np.array_equal(found[:, 0], np.arange(1000)) and (distances == 0).all())
check("queries from a call of their own are rows of the base", False, seen, seen)
seen = bool(np.array_equal(faiss.rand(1000, seed=1), faiss.rand(1000, seed=2)))
check("with seeds 1 and 2 two samples are equal", False, seen, not seen)
PY
cd "$work"
venv/bin/python check.py
