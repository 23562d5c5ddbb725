#!/usr/bin/env bash
# A FAISS index with the metric Lp puts every vector at distance d from every other, itself too.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: an index with METRIC_Lp asks for the exponent, or takes 2.
# Seen: the exponent is metric_arg, a field to be set afterwards, and is 0 until then: each coordinate adds |x - y|^0 = 1, the distance is
# the number of dimensions for all pairs, and the first rows are the answer. With metric_arg 3 the distance is the sum of cubes, without a root.
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


x = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
index = faiss.IndexFlat(8, faiss.METRIC_Lp)
index.add(x)
distances, ids = index.search(x[40:41], 3)
seen = (distances[0].tolist(), ids[0].tolist())
check("nearest to row 40, exponent not set", ([0.0, "...", "..."], [40, "...", "..."]), seen, seen == ([8.0] * 3, [0, 1, 2]))
index.metric_arg = 3
distances, ids = index.search(x[40:41], 2)
cubes = float((np.abs(x[40] - x[ids[0, 1]]).astype(float) ** 3).sum())
check("distance of the second, exponent 3", round(cubes ** (1 / 3), 4), round(float(distances[0, 1]), 4), abs(distances[0, 1] - cubes) < 1e-3)
PY
cd "$work"
venv/bin/python check.py
