#!/usr/bin/env bash
# Flax's msgpack turns a big-endian float32 one into 4.6e-41.
#
# Versions: flax 0.12.8, jax 0.10.2, numpy 2.4.6.
# A good guess: the byte order is turned or kept in the dtype, as np.save and safetensors do.
# Seen: the raw bytes are written beside the dtype's name, which says float32 and no byte order, and
# are read as little-endian. Arrays from HDF5, FITS or IDX files are often big-endian.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 'jax[cpu]==0.10.2' numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from flax import serialization


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


a = np.ones(2, ">f4")
back = serialization.msgpack_restore(serialization.msgpack_serialize({"a": a}))["a"]
check("two big-endian ones after msgpack_serialize and msgpack_restore", [1.0, 1.0], back.tolist(),
      back.dtype == np.float32 and np.array_equal(back.view(np.uint32), [0x803F, 0x803F]))
order = serialization.msgpack_restore(serialization.msgpack_serialize({"a": np.asfortranarray(np.arange(6.0).reshape(2, 3))}))["a"]
check("a Fortran-ordered array", [[0, 1, 2], [3, 4, 5]], order.tolist(), order.tolist() == [[0, 1, 2], [3, 4, 5]])
PY
cd "$work"
venv/bin/python check.py
