#!/usr/bin/env bash
# To SimSIMD a vector of NaN is as far from every vector as a perpendicular one, and a vector of zeros equals a vector of zeros.
#
# Versions: simsimd 6.5.16, numpy 2.4.6, scipy 1.17.1.
# A good guess: as in numpy and SciPy, whose places it takes, NaN goes in and NaN comes out, and the cosine of a vector without a direction
# is NaN.
# Seen: cosine gives 1.0 where one side holds NaN, 0.0 between two vectors of zeros and 1.0 between zeros and anything else. So a damaged
# vector passes for an ordinary stranger, and two empty ones for copies.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check simsimd==6.5.16 numpy==2.4.6 scipy==1.17.1
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
import simsimd
from scipy.spatial import distance

warnings.simplefilter("ignore", RuntimeWarning)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


one = np.arange(1, 65, dtype=np.float32)
holed = one.copy()
holed[5] = np.nan
zeros = np.zeros(64, np.float32)
for what, a, b, expected in (
    ("one NaN in 64 numbers", one, holed, 1.0),
    ("NaN alone", np.full(64, np.nan, np.float32), one, 1.0),
    ("zeros and zeros", zeros, zeros.copy(), 0.0),
    ("zeros and others", zeros, one, 1.0),
):
    theirs, seen = float(distance.cosine(a, b)), float(simsimd.cosine(a, b))
    check(f"cosine distance, {what}", f"{theirs}, as SciPy", seen, seen == expected)
PY
cd "$work"
venv/bin/python check.py
