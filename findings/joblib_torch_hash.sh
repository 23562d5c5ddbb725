#!/usr/bin/env bash
# joblib.hash gives equal PyTorch tensors different digests; so do dask and datasets for equal arrays in another layout.
#
# Versions: joblib 1.6.0, dask 2026.8.0, datasets 5.2.0, torch 2.13.0, numpy 2.4.6.
# A good guess: a hash of what an object holds is the same for equal tensors of one type and shape, as it is for equal dictionaries.
# Seen: joblib pickles a tensor with what tells its storage apart, so a clone has another digest. For NumPy arrays joblib takes the
# strides in, for a slice and its copy too; dask and datasets tell C from Fortran order; datasets' digest of a state dict depends on
# whether two equal tensors are tied. So none of them is a digest of the weights, and caches keyed by them miss.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile joblib==1.6.0 dask==2026.8.0 datasets==5.2.0 torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import joblib
import numpy as np
import torch
from dask.base import tokenize
from datasets.fingerprint import Hasher


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


tensor, array = torch.arange(12.0).reshape(3, 4), np.arange(12.0).reshape(3, 4)
fortran = np.asfortranarray(array)
same = {
    "joblib, the tensor again": (joblib.hash(tensor) == joblib.hash(tensor), True),
    "joblib, a tensor and its clone": (joblib.hash(tensor) == joblib.hash(tensor.clone()), False),
    "datasets, a tensor and its clone": (Hasher.hash(tensor) == Hasher.hash(tensor.clone()), True),
    "joblib, a slice of an array and its copy": (joblib.hash(array[:, :2]) == joblib.hash(array[:, :2].copy()), False),
    "joblib, an array in C and in Fortran order": (joblib.hash(array) == joblib.hash(fortran), False),
    "dask, an array in C and in Fortran order": (tokenize(array) == tokenize(fortran), False),
    "datasets, an array in C and in Fortran order": (Hasher.hash(array) == Hasher.hash(fortran), False),
    "datasets, two tied tensors and two equal ones": (Hasher.hash({"a": tensor, "b": tensor}) == Hasher.hash({"a": tensor, "b": tensor.clone()}), False),
}
for what, (seen, still) in same.items():
    check(f"{what}: equal digests", True, seen, seen == still)
PY
cd "$work"
venv/bin/python check.py
