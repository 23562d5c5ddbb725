#!/usr/bin/env bash
# A Python float times a bfloat16 array is float32, a Python int times it is bfloat16.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: a Python number is weak in NumPy 2, so both stay bfloat16 (float16 * 1.5 is float16).
# Seen: only the int is weak. np.clip and np.where widen the array too, and a product of two bfloat16
# matrices is float32 with @ while np.dot of two vectors is bfloat16 (9984 for 10000 ones).
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


b = np.ones(10000, ml_dtypes.bfloat16)
check("float16 array * 1.5", "float16", (np.ones(1, np.float16) * 1.5).dtype, (np.ones(1, np.float16) * 1.5).dtype == np.float16)
for what, seen, want in [
    ("bfloat16 array * 1.5", b * 1.5, "float32"),
    ("bfloat16 array * 2", b * 2, "bfloat16"),
    ("np.clip(bfloat16 array, 0, 5)", np.clip(b, 0, 5), "float32"),
    ("np.where(True, bfloat16 array, 0.0)", np.where(True, b, 0.0), "float64"),
    ("1 x 10000 @ 10000 x 1 in bfloat16", b[None] @ b[:, None], "float32"),
    ("np.dot of two bfloat16 vectors", np.dot(b, b), "bfloat16"),
]:
    check(what, "bfloat16", f"{seen.dtype}, first value {float(np.ravel(seen)[0])}", str(seen.dtype) == want)
PY
cd "$work"
venv/bin/python check.py
