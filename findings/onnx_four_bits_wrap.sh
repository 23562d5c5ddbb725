#!/usr/bin/env bash
# onnx.helper clamps what is too large for eight-bit floats and wraps what is too large for four-bit integers.
#
# Versions: onnx 1.23.2, numpy 2.4.6, ml_dtypes 0.6.0.
# A good guess: make_tensor treats what a type cannot hold in one way: it clamps, or it refuses.
# Seen: 1000 becomes 448 as FLOAT8E4M3FN and 6 as FLOAT4E2M1; 9 becomes -7 as INT4, 20 becomes 4 as UINT4, and 70000 becomes
# infinite as FLOAT16. A quantiser that forgets to clip makes sign errors in INT4 without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile onnx==1.23.2 numpy==2.4.6 ml_dtypes==0.6.0
cat > "$work/check.py" <<'PY'
import numpy as np
from onnx import TensorProto, helper, numpy_helper


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


cases = (("FLOAT8E4M3FN", 1000, 448), ("FLOAT4E2M1", 1000, 6), ("INT4", 9, -7), ("UINT4", 20, 4), ("FLOAT16", 70000, np.inf))
guesses = {"INT4": 7, "UINT4": 15, "FLOAT16": 65504}
for kind, number, want in cases:
    with np.errstate(all="ignore"):
        made = helper.make_tensor("t", getattr(TensorProto, kind), [1], [number])
    seen = float(numpy_helper.to_array(made).astype(np.float32)[0])
    check(f"{number} as {kind}", guesses.get(kind, want), seen, seen == want)
PY
cd "$work"
venv/bin/python check.py
