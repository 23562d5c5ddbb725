#!/usr/bin/env bash
# The mean of ten thousand bfloat16 ones is 0.0256 in NumPy.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: 1.0. NumPy adds float16 pairwise and takes its mean in float32; PyTorch and JAX
# add bfloat16 in float32.
# Seen: an array of an ml_dtypes type is added one by one in its own type, so the sum stops where
# adding one more no longer changes it: 256 for bfloat16, 16 for float8_e4m3fn. With
# dtype=np.float32 the mean is right.
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


half = np.ones(10000, np.float16)
bf16 = np.ones(10000, ml_dtypes.bfloat16)
f8 = np.ones(10000, ml_dtypes.float8_e4m3fn)
check("mean of 10000 ones, float16", 1.0, float(half.mean()), half.mean() == 1)
check("sum of 10000 ones, bfloat16", "9984 (10000 rounded)", float(bf16.sum()), float(bf16.sum()) == 256)
check("mean of 10000 ones, bfloat16", 1.0, float(bf16.mean()), 0.02 < float(bf16.mean()) < 0.03)
check("sum of 10000 ones, float8_e4m3fn", "100 or more", float(f8.sum()), float(f8.sum()) == 16)
check("mean of bfloat16 with dtype=np.float32", 1.0, float(bf16.mean(dtype=np.float32)), bf16.mean(dtype=np.float32) == 1)
PY
cd "$work"
venv/bin/python check.py
