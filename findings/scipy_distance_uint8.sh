#!/usr/bin/env bash
# scipy.spatial.distance.euclidean of uint8 [1] and [2] is 255.
#
# Versions: scipy 1.17.1, numpy 2.4.6.
# A good guess: 1.0; the functions are documented to give a double, cdist gives 1.0.
# Seen: the functions for one pair subtract in the type of the input, so quantised codes wrap in
# euclidean, cityblock and chebyshev (sqeuclidean is right: it widens first), and cosine of two equal
# float16 vectors is nan as the dot product overflows. cdist widens everything.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
from scipy.spatial import distance as d


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


warnings.simplefilter("ignore")
a, b = np.array([1], np.uint8), np.array([2], np.uint8)
for name, still in [("euclidean", 255), ("cityblock", 255), ("chebyshev", 255), ("sqeuclidean", 1)]:
    seen = float(getattr(d, name)(a, b))
    check(f"{name}(uint8 [1], uint8 [2])", 1.0, seen, seen == still)
check("cdist of the same", 1.0, d.cdist(a[None], b[None])[0, 0], d.cdist(a[None], b[None])[0, 0] == 1)
h = np.full(1000, 100, np.float16)
check("cosine(h, h), float16", 0.0, d.cosine(h, h), np.isnan(d.cosine(h, h)))
wide = d.cdist(h[None], h[None], "cosine")[0, 0]
check("cdist(h, h, 'cosine'), float16", 0.0, wide, abs(wide) < 1e-6)
PY
cd "$work"
venv/bin/python check.py
