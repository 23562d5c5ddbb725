#!/usr/bin/env bash
# np.save writes a float8_e5m2 array that np.load refuses, and h5py refuses only that type.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6, h5py 3.16.0.
# A good guess: all types of ml_dtypes fare alike: they come back as raw bytes (kind V).
# Seen: float8_e5m2 alone calls itself kind f ('<f1'). NumPy writes that descriptor and cannot read
# it; h5py takes bfloat16, int4 and float8_e4m3fn as opaque bytes but not float8_e5m2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ml_dtypes==0.6.0 numpy==2.4.6 h5py==3.16.0
cat > "$work/check.py" <<'PY'
import io

import h5py
import ml_dtypes
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


seen = {}
f = h5py.File("x.h5", "w")
for name in ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "float8_e8m0fnu"]:
    a = np.ones(2, getattr(ml_dtypes, name))
    box = io.BytesIO()
    np.save(box, a)
    box.seek(0)
    try:
        npy = np.load(box).dtype.str
    except ValueError as e:
        npy = f"ValueError: {e}"
    try:
        f[name] = a
        h5 = f[name].dtype.str
    except TypeError as e:
        h5 = f"TypeError: {e}"
    seen[name] = (a.dtype.str, npy, h5)
    odd = name == "float8_e5m2"
    check(f"{name}: own dtype string, after np.save and np.load, after h5py", "raw bytes (V)", seen[name],
          (npy.startswith("ValueError"), h5.startswith("TypeError")) == (odd, odd))
PY
cd "$work"
venv/bin/python check.py
