#!/usr/bin/env bash
# MLX's mean and norm of float16 values overflow where their results are small.
#
# Versions: mlx 0.32.4 (CPU), numpy 2.4.6.
# A good guess: sums of float16 are kept in float32 inside, as in NumPy's mean and PyTorch's mean and norm, and rounded once.
# Seen: the sum and the squares are float16: the mean of 3000 thirties is inf, the norm of 300 of them is inf (519.6). bfloat16 does not overflow,
# but its mean is 30.125. rms_norm is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' numpy==2.4.6
cat > "$work/check.py" <<'PY'
import mlx.core as mx
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


half = mx.full((3000,), 30.0).astype(mx.float16)
seen = mx.mean(half).item()
check("mean of 3000 thirties, float16, MLX", 30.0, seen, seen == float("inf"))
seen = float(np.full(3000, 30.0, np.float16).mean())
check("the same, NumPy", 30.0, seen, seen == 30.0)
seen = mx.linalg.norm(half[:300]).item()
check("norm of 300 thirties, float16, MLX", 519.5, seen, seen == float("inf"))
seen = mx.mean(half.astype(mx.bfloat16)).item()
check("mean of 3000 thirties, bfloat16, MLX", 30.0, seen, seen != 30.0 and abs(seen - 30) < 1)
seen = mx.fast.rms_norm(half[None, :300], mx.ones(300).astype(mx.float16), 1e-5)[0, 0].item()
check("rms_norm of 300 thirties, float16, MLX", 1.0, seen, abs(seen - 1) < 1e-2)
PY
cd "$work"
venv/bin/python check.py
