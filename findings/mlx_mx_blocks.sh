#!/usr/bin/env bash
# MLX's mxfp4 and mxfp8 make infinity of 1e-38, 1e38 of 1e-39, and zeros of a block with one NaN.
#
# Versions: mlx 0.32.4 (on the CPU), numpy 2.4.6.
# A good guess: numbers too small for the least scale, 2**-127, become 0, as in NVFP4; a NaN makes its block NaN, for which the scale has a code.
# Seen: the scale's exponent is kept in eight bits and wraps: below the least it begins again at the top. mxfp8 turns 1e-36, an ordinary float32
# number, into infinity, and 1e-39 becomes 1e38 in both. One NaN or one infinity among 32 weights makes zeros of all of them in mxfp4 and
# nvfp4, and 896 in mxfp8. Nothing is raised. Moments of optimisers and weights of units that died hold such numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' numpy==2.4.6
cat > "$work/check.py" <<'PY'
import math

import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def again(x, mode):
    """A block of 32 numbers after quantising and back."""
    return np.array(mx.dequantize(*mx.quantize(mx.array(np.float32(x))[None], mode=mode), mode=mode, dtype=mx.float32))[0]


tests = [("mxfp4", 1e-37, lambda y: 5e-38 < y < 2e-37), ("mxfp4", 1e-38, math.isinf), ("mxfp4", 1e-39, lambda y: y > 1e37)]
tests += [("mxfp8", 1e-35, lambda y: 5e-36 < y < 2e-35), ("mxfp8", 1e-36, math.isinf), ("mxfp8", 1e-39, lambda y: y > 1e37)]
tests += [("nvfp4", 1e-36, lambda y: y == 0)]
for mode, x, still in tests:
    seen = float(again(np.full(32, x), mode)[0])
    check(f"a block of {x} by {mode}", "0 or near it", seen, still(seen))
for damage in (np.nan, np.inf):
    block = np.linspace(0.5, 1.5, 32)
    block[3] = damage
    for mode, rest in [("mxfp4", 0.0), ("nvfp4", 0.0), ("mxfp8", 896.0)]:
        seen = again(block, mode)[4:7].tolist()
        check(f"numbers from 0.5 to 1.5 beside one {damage}, by {mode}", "NaN, or near 0.6", seen, seen == [rest] * 3)
PY
cd "$work"
venv/bin/python check.py
