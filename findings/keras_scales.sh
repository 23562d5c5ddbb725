#!/usr/bin/env bash
# In Keras the kernel_scale of int8 divides and the kernel_scale of int4 multiplies.
#
# Versions: keras 3.15.1, jax 0.10.2 as backend, numpy 2.4.6.
# A good guess: weight = code * scale in both, as in most formats.
# Seen: int8 stores 127 / absmax, so weight = code / scale; int4 stores a step, so weight =
# (code - zero) * scale. Both are called kernel_scale, and the .h5 file calls them vars/1. Two int4
# values share a byte along the output axis, where earlier versions packed the input axis.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 'jax[cpu]==0.10.2' numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os
import warnings

warnings.simplefilter("ignore")
os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


w = np.random.default_rng(0).normal(size=(128, 6)).astype(np.float32)


def quantized(mode):
    model = keras.Sequential([keras.Input((128,)), keras.layers.Dense(6, use_bias=False)])
    dense = model.layers[0]
    dense.kernel.assign(w)
    model.quantize(mode)
    return dense, np.array(dense._kernel).astype(np.int16), np.array(dense.kernel_scale)


def error(v):
    return round(float(np.abs(v - w).max()), 3)


_, q, s = quantized("int8")
check("int8: error of code * scale, of code / scale", "small, large", (error(q * s), error(q / s)),
      error(q / s) < 0.05 < error(q * s))
dense, q, s = quantized("int4")
check("int4: shape of the packed 128 x 6 kernel", (64, 6), q.shape, q.shape == (128, 3))
zero = np.array(dense.kernel_zero).astype(np.float32)
code = np.stack([((q & 15) ^ 8) - 8, ((q >> 4 & 15) ^ 8) - 8], -1).reshape(128, 6)
mul, div = error((code - zero) * s), error((code - zero) / s)
check("int4: error of (code - zero) * scale, of / scale", "large, small, as in int8", (mul, div), mul < 0.4 < div)
PY
cd "$work"
venv/bin/python check.py
