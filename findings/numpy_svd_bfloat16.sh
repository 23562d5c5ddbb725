#!/usr/bin/env bash
# np.linalg refuses float16 but takes bfloat16, and works on it in float64.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: LAPACK has neither type, so both are refused (PyTorch refuses both).
# Seen: float16 is a TypeError; bfloat16, float8 and int4 are no NumPy floats (kind V), so they are
# cast to float64: svd works, and np.linalg.norm of bfloat16 is exact where float16 overflows.
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


try:
    half = str(np.linalg.svd(np.eye(3, dtype=np.float16))[1].dtype)
except TypeError as e:
    half = f"TypeError: {e}"
check("svd of float16", "refused", half, half.startswith("TypeError"))
for name in ["bfloat16", "float8_e4m3fn", "int4"]:
    s = np.linalg.svd(np.eye(3, dtype=np.int8).astype(getattr(ml_dtypes, name)))[1]
    check(f"svd of {name}", "refused", f"singular values in {s.dtype}", s.dtype == np.float64)
n = np.linalg.norm(np.full(1000, 100, ml_dtypes.bfloat16))
check("norm of 1000 hundreds in bfloat16", "3168 in bfloat16", f"{n} in {n.dtype}", n.dtype == np.float64)
PY
cd "$work"
venv/bin/python check.py
