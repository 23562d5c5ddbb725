#!/usr/bin/env bash
# faiss.normalize_L2 makes zeros of large vectors and leaves small ones as they are.
#
# Versions: faiss-cpu 1.15.1, numpy 2.4.6.
# A good guess: every vector but zeros comes out with length 1, whatever its scale.
# Seen: the squares are summed in float32. A vector of numbers near 1e25 becomes zeros, which then is as near to
# everything; one of numbers near 1e-30 stays as it was, so that its inner products are near 0. Both float32 vectors
# are ordinary numbers, and numpy.linalg.norm of them in float64 is exact.
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


for scale, want in ((1.0, 1.0), (1e25, 0.0), (1e-30, 2e-30)):
    x = np.full((1, 4), scale, np.float32)
    faiss.normalize_L2(x)
    length = float(np.linalg.norm(x.astype(np.float64)))
    check(f"length of four numbers of {scale:g}, normalised", 1.0, length, abs(length - want) <= 1e-6 * max(want, 1e-30))
PY
cd "$work"
venv/bin/python check.py
