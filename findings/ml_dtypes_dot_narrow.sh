#!/usr/bin/env bash
# np.dot of narrow floats answers in their type, the operator @ of matrices in float32.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: np.dot(a, b) and a @ b are the same product.
# Seen: of 300 ones as float8_e4m3fn np.dot gives 288, a row times a column 300; of 70000 ones NaN and 70000. So a cosine that is
# made of np.dot is NaN for vectors of ordinary weights, and differs with the shape that the same numbers have.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import ml_dtypes
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for count, want in ((300, 288.0), (70000, np.nan)):
    ones = np.ones(count, ml_dtypes.float8_e4m3fn)
    dot, matrices = float(np.dot(ones, ones)), (ones[None] @ ones[:, None])
    check(f"np.dot of {count} ones", count, dot, np.array_equal(dot, want, equal_nan=True))
    check("as a row times a column", count, (float(matrices[0, 0]), matrices.dtype.name), float(matrices[0, 0]) == count)
PY
cd "$work"
venv/bin/python check.py
