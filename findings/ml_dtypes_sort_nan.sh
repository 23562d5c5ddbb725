#!/usr/bin/env bash
# np.sort leaves a bfloat16 array with a NaN in it unsorted.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: NaNs go to the end and the rest is in order, as for every float type of NumPy.
# Seen: the comparison of bfloat16 knows no place for NaN, so the numbers around it stay out of
# order, in np.sort and in np.argsort. np.median, np.partition and np.unique stand on these.
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


values = [3.0, float("nan"), 1.0, 5.0, -2.0]
good = np.sort(np.array(values, np.float16)).astype(float)
seen = np.sort(np.array(values, ml_dtypes.bfloat16)).astype(float)
numbers = seen[~np.isnan(seen)]
check("np.sort of [3, nan, 1, 5, -2] in bfloat16", f"as in float16: {good.tolist()}", seen.tolist(),
      not (np.isnan(seen[-1]) and (np.diff(numbers) > 0).all()))
unique = np.unique(np.array([np.nan, np.nan, 1, 1], ml_dtypes.bfloat16))
check("np.unique of [nan, nan, 1, 1] in bfloat16", "[1, nan]", unique.tolist(), len(unique) == 3)
PY
cd "$work"
venv/bin/python check.py
