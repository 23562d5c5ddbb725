#!/usr/bin/env bash
# The sum of ten int4 sevens is 6, and their mean is 0.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: 70 and 7.0: NumPy adds every small integer type in int64 and gives a mean in float64.
# Seen: int4 is no NumPy integer (its kind is V), so the sum stays int4 and wraps at 8, the mean
# is an int4 too, and the array is refused as an index.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import ml_dtypes
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


small = np.full(10, 7, np.int8)
q = np.full(10, 7, ml_dtypes.int4)
check("sum of ten int8 sevens", "70 in int64", (int(small.sum()), str(small.sum().dtype)), small.sum() == 70)
check("sum of ten int4 sevens", 70, (int(q.sum()), str(q.sum().dtype)), int(q.sum()) == 6)
check("mean of ten int4 sevens", 7.0, (float(q.mean()), str(q.mean().dtype)), float(q.mean()) == 0)
try:
    seen = np.arange(9)[q]
except IndexError as e:
    seen = f"IndexError: {e}"
check("an int4 array as an index", "works", seen, isinstance(seen, str))
PY
cd "$work"
venv/bin/python check.py
