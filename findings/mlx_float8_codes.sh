#!/usr/bin/env bash
# MLX reads float8 tensors of a safetensors file as whole numbers, without a word.
#
# Versions: mlx 0.32.4 (CPU), safetensors 0.8.0, ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: a type that MLX does not have is refused, as F64 and F8_E5M2 are.
# Seen: F8_E4M3 and F8_E8M0 come as uint8: 1.5 is 60. Arithmetic with them goes on without an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' safetensors==0.8.0 ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import json
import struct

import ml_dtypes
import mlx.core as mx
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def write(path, kind, values):
    data = values.tobytes()
    header = json.dumps({"a": {"dtype": kind, "shape": list(values.shape), "data_offsets": [0, len(data)]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)


x = np.array([1.5, -2, 0.25, 4], np.float32)
for kind, numpy_type in (("F8_E4M3", ml_dtypes.float8_e4m3fn), ("F8_E5M2", ml_dtypes.float8_e5m2), ("F64", np.float64)):
    write("a.safetensors", kind, x.astype(numpy_type))
    try:
        read = mx.load("a.safetensors")["a"]
        seen = (str(read.dtype), np.array(read.astype(mx.float32)).tolist())
    except RuntimeError as error:
        seen = str(error)
    still = seen == ("mlx.core.uint8", [60.0, 192.0, 40.0, 72.0]) if kind == "F8_E4M3" else "unsupported" in seen
    check(f"{kind} of {x.tolist()}", "the numbers or an error", seen, still)
write("a.safetensors", "F8_E8M0", np.array([1, 2, 0.5], ml_dtypes.float8_e8m0fnu))
read = mx.load("a.safetensors")["a"]
check("F8_E8M0 of [1, 2, 0.5]", "the numbers or an error", (str(read.dtype), read.tolist()), read.tolist() == [127, 128, 126])
PY
cd "$work"
venv/bin/python check.py
