#!/usr/bin/env bash
# MLX and Paddle turn NaN into 448 when they cast to float8_e4m3fn.
#
# Versions: mlx 0.32.4, paddlepaddle 3.3.1 (both on the CPU), ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: whether or not large numbers saturate, NaN stays NaN; the type has a code for it.
# Seen: in both libraries NaN becomes the largest number, so a broken weight looks sound in the file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' paddlepaddle==3.3.1 ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import ml_dtypes
import mlx.core as mx
import numpy as np
import paddle


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.array([1.0, 1000.0, np.inf, np.nan], np.float32)
peer = x.astype(ml_dtypes.float8_e4m3fn).astype(np.float32).tolist()
check("ml_dtypes", "NaN stays NaN", peer, np.isnan(peer[3]))
seen = mx.from_fp8(mx.to_fp8(mx.array(x)), dtype=mx.float32).tolist()
check(f"MLX: {x.tolist()} by to_fp8 and from_fp8", "NaN stays NaN", seen, seen == [1, 448, 448, 448])
seen = paddle.to_tensor(x).astype("float8_e4m3fn").astype("float32").tolist()
check(f"Paddle: {x.tolist()} as float8_e4m3fn", "NaN stays NaN", seen, seen == [1, 448, 448, 448])
PY
cd "$work"
venv/bin/python check.py
