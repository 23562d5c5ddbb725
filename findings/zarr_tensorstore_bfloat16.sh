#!/usr/bin/env bash
# zarr cannot open a bfloat16 array that TensorStore wrote as zarr.
#
# Versions: zarr 3.1.6, tensorstore 0.1.86, ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: both speak zarr 2, so what one writes the other opens, at least as raw bytes.
# Seen: TensorStore writes the type "bfloat16", which is no type of zarr 2; zarr refuses the array (ValueError), whole checkpoints of JAX
# models with it. zarr cannot make such an array either. float32 goes both ways.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile zarr==3.1.6 tensorstore==0.1.86 ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import json

import ml_dtypes
import numpy as np
import tensorstore
import zarr


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for name, kind in (("float32", np.float32), ("bfloat16", ml_dtypes.bfloat16)):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{name}/"}}
    store = tensorstore.open(spec, create=True, dtype=tensorstore.dtype(name), shape=[3]).result()
    store.write(np.array([1, 2, 3], kind)).result()
    with open(f"{name}/.zarray") as file:
        stored = json.load(file)["dtype"]
    try:
        seen = np.asarray(zarr.open(name)[:]).tolist()
    except ValueError as error:
        seen = f"ValueError: {error}"[:60]
    still = seen == [1.0, 2.0, 3.0] if name == "float32" else stored == "bfloat16" and str(seen).startswith("ValueError")
    check(f"{name}, stored as {stored!r}, opened by zarr", [1.0, 2.0, 3.0], seen, still)
try:
    seen = str(zarr.create_array("own", shape=(3,), dtype=ml_dtypes.bfloat16))
except ValueError as error:
    seen = f"ValueError: {error}"[:60]
check("an array of bfloat16 made by zarr", "an array", seen, seen.startswith("ValueError"))
PY
cd "$work"
venv/bin/python check.py
