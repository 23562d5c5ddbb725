#!/usr/bin/env bash
# Keras loads weights by the order of layers, not by their names, and says nothing where names differ.
#
# Versions: keras 3.15.1, jax 0.10.2 as backend, numpy 2.4.6.
# A good guess: a layer called "first" gets the weights of the layer called "first", or loading fails.
# Seen: both .weights.h5 and .h5 go by class and order: with two layers' names swapped, "second" gets
# the weights of "first". Only load_weights(..., by_name=True) on a .h5 file goes by names. Inside
# .weights.h5 the groups are called dense, dense_1; the layers' own names are an attribute beside.
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


def model(*names):
    layers = [keras.layers.Dense(4, name=name, use_bias=False) for name in names]
    return keras.Sequential([keras.Input((4,)), *layers])


def kernel(of, name):
    return np.array(of.get_layer(name).kernel)


def like(one, two):
    return next(name for name in ("first", "second") if np.array_equal(kernel(one, name), kernel(two, "first")))


one = model("first", "second")
for file in ("m.weights.h5", "m.h5"):
    two = model("second", "first")
    (one.save_weights if file == "m.weights.h5" else one.save)(file)
    two.load_weights(file)
    check(f"{file}: the layer 'first' of the second model has the weights of", "first", like(one, two), like(one, two) == "second")
two = model("second", "first")
two.load_weights("m.h5", by_name=True)
check("m.h5 with by_name=True", "first", like(one, two), like(one, two) == "first")
PY
cd "$work"
venv/bin/python check.py
