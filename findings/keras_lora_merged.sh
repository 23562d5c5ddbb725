#!/usr/bin/env bash
# Keras saves a layer with a LoRA as the sum, and the base is in no file.
#
# Versions: keras 3.15.1, torch 2.13.0 (as the backend), h5py 3.16.0, numpy 2.4.6.
# A good guess: save_weights writes what model.weights lists: the kernel as it was, and the adapter's two factors beside it.
# Seen: the file has one kernel, the frozen one plus the product, under the name and in the shape of a plain Dense; neither factor is there.
# Loaded into a model with enable_lora(2) the factors are cleared: the outputs are the same, the base is gone, and saving and
# loading in the middle of a training makes each adapter start anew on a moved base. No sign in the file tells that a LoRA was there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile keras==3.15.1 torch==2.13.0 h5py==3.16.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

os.environ["KERAS_BACKEND"] = "torch"
import h5py
import keras
import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def model(rank=0):
    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, name="dense")])
    if rank:
        one.layers[0].enable_lora(rank)
    return one


def numbers(variable):
    return variable.value.detach().numpy().copy()


tuned = model(2)
layer = tuned.layers[0]
layer.lora_kernel_b.assign(np.ones((2, 6)))
base, change = numbers(layer._kernel), numbers(layer.lora_kernel_a) @ numbers(layer.lora_kernel_b)
names = [w.path.split("/")[-1] for w in tuned.weights]
check("model.weights", ["kernel", "bias", "lora_kernel_a", "lora_kernel_b"], names, names == ["kernel", "bias", "lora_kernel_a", "lora_kernel_b"])
tuned.save_weights("a.weights.h5")
stored = {}
with h5py.File("a.weights.h5") as file:
    file.visititems(lambda name, item: stored.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
seen = sorted(item.shape for item in stored.values())
check("shapes in the file", [(2, 6), (4, 2), (4, 6), (6,)], seen, seen == [(4, 6), (6,)])
kernel = next(item for item in stored.values() if item.shape == (4, 6))
seen = [bool(np.allclose(kernel, base)), bool(np.allclose(kernel, base + change))]
check("its kernel is the base, is the sum", [True, False], seen, seen == [False, True])
again = model(2)
again.load_weights("a.weights.h5")
layer = again.layers[0]
seen = [bool(np.allclose(numbers(layer._kernel), base)), float(np.abs(numbers(layer.lora_kernel_b)).max())]
check("loaded with enable_lora(2): the base is back, largest of the second factor", [True, 1.0], seen, seen == [False, 0.0])
PY
cd "$work"
venv/bin/python check.py
