#!/usr/bin/env bash
# Two Keras layers that share an initializer object begin with equal weights.
#
# Versions: keras 3.15.1, jax 0.10.2 as backend, numpy 2.4.6.
# A good guess: an initializer without a seed draws anew at each use, as in Keras 2 and PyTorch.
# Seen: one object gives the same numbers each time it is used for a shape, whether it was given a seed or not; the name
# "glorot_uniform" makes an object a layer. So layers of one freshly made model can be equal, without one being copied.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


shared = keras.initializers.GlorotUniform()
kinds = [shared, shared, "glorot_uniform", "glorot_uniform"]
layers = [keras.layers.Dense(4, kernel_initializer=kind) for kind in kinds]
keras.Sequential([keras.Input((4,)), *layers])
first, second, third, fourth = (np.asarray(layer.kernel) for layer in layers)
seen = np.array_equal(first, second)
check("kernels of two layers with one initializer object are equal", False, seen, seen)
seen = np.array_equal(third, fourth)
check("kernels of two layers with the initializer's name are equal", False, seen, not seen)
PY
cd "$work"
venv/bin/python check.py
