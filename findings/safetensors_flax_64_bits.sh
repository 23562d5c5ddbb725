#!/usr/bin/env bash
# safetensors.flax reads the whole number 2**40 + 5 as 5, and says nothing.
#
# Versions: safetensors 0.8.0, jax 0.10.2, flax 0.12.8, numpy 2.4.6.
# A good guess: 64-bit tensors stay NumPy's, or JAX warns that 64 bits are switched off, or raises as it does for the Python integer 2**31.
# Seen: I64 becomes int32 and U64 uint32 by keeping the lower half, and 1e300 of an F64 tensor becomes infinity. Ids, hashes, packed
# codes of 64 bits and counts of steps are then other numbers, and so is a file written from them. With jax_enable_x64 they are kept.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile safetensors==0.8.0 jax==0.10.2 flax==0.12.8 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import jax
import numpy as np
import safetensors.numpy
from safetensors.flax import load_file, save_file


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


safetensors.numpy.save_file({"i64": np.array([2**40 + 5]), "u64": np.array([2**63 + 5], np.uint64), "f64": np.array([1e300])}, "a.safetensors")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    found = load_file("a.safetensors")
seen = {name: str(found[name].dtype) for name in ("i64", "u64", "f64")}
check("types", {"i64": "int64", "u64": "uint64", "f64": "float64"}, seen, seen == {"i64": "int32", "u64": "uint32", "f64": "float32"})
seen = [int(found["i64"][0]), int(found["u64"][0]), float(found["f64"][0])]
check("values", [2**40 + 5, 2**63 + 5, 1e300], seen, seen == [5, 5, float("inf")])
seen = [str(one.message) for one in told if "overflow" not in str(one.message)]
check("warnings of 64 bits", "one for each", seen, seen == [])
save_file(found, "b.safetensors")
seen = int(safetensors.numpy.load_file("b.safetensors")["i64"][0])
check("the whole number after writing it again", 2**40 + 5, seen, seen == 5)
jax.config.update("jax_enable_x64", True)
seen = int(load_file("a.safetensors")["i64"][0])
check("with jax_enable_x64", 2**40 + 5, seen, seen == 2**40 + 5)
PY
cd "$work"
venv/bin/python check.py
