#!/usr/bin/env bash
# pynndescent answers a query of zeros with one row, named k times.
#
# Versions: pynndescent 0.7.0, numpy 2.4.6, scipy 1.17.1.
# A good guess: k different rows, or an error; and the metric dot orders by inner product.
# Seen: with cosine and dot the same row comes k times, at distance 1. The metric dot divides by lengths: a row and its triple are
# both at distance 0 from the row, so it is the cosine.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile pynndescent==0.7.0 numpy==2.4.6 scipy==1.17.1
cat > "$work/check.py" <<'PY'
import numpy as np
import pynndescent


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.random.default_rng(0).standard_normal((200, 16)).astype(np.float32)
x[8] = 3 * x[7]
for metric in ("cosine", "dot"):
    index = pynndescent.NNDescent(x, metric=metric, n_neighbors=15, random_state=0)
    rows, distances = index.query(np.stack([np.zeros(16, np.float32), x[7]]), k=4)
    check(f"{metric}: rows nearest to zeros", "four rows", rows[0].tolist(), len(set(rows[0].tolist())) == 1)
    seen = sorted(zip(rows[1].tolist(), np.abs(distances[1]).round(4).tolist()))[:2]
    still = dict(seen) == {7: 0.0, 8: 0.0}
    check(f"{metric}: row 7 and its triple, asked for row 7", "equal" if metric == "cosine" else "the triple first", seen, still)
PY
cd "$work"
venv/bin/python check.py
