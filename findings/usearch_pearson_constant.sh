#!/usr/bin/env bash
# To usearch a vector of zeros correlates perfectly with every other.
#
# Versions: usearch 2.26.6, numpy 2.4.6.
# A good guess: a correlation with a constant is undefined: NaN, or no correlation, as the metric cos gives 1.0 (none) for zeros.
# Seen: with the metric pearson the distance is 0, as between equals, whatever the other vector is: zeros and constants come among the nearest of
# every query, and a query of zeros has every row at distance 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile usearch==2.26.6 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from usearch.index import Index


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
x[5], x[6] = 0, 0.25
for metric, guess in (("cos", 1.0), ("pearson", 1.0)):
    index = Index(ndim=16, metric=metric, dtype="f32")
    index.add(np.arange(len(x)), x)
    found = index.search(x[7], 50)
    distances = dict(zip(found.keys.tolist(), found.distances.tolist()))
    still = distances[5] == (1.0 if metric == "cos" else 0.0)
    check(f"{metric}: distance of zeros from a random row", guess, distances[5], still)
    if metric == "pearson":
        check("pearson: distance of a constant from it", guess, distances[6], abs(distances[6]) < 1e-3)
        found = index.search(x[5], 50).distances.tolist()
        check("pearson: distances from a query of zeros", "1.0 or NaN", sorted(set(found)), set(found) == {0.0})
PY
cd "$work"
venv/bin/python check.py
