#!/usr/bin/env bash
# JAX casts 300 to int8 as 127 where NumPy makes 44 of it, and 500 to float8_e4m3fn as NaN.
#
# Versions: jax 0.10.2, numpy 2.4.6, ml_dtypes 0.6.0, on an x86-64 processor (NumPy leaves such casts to it).
# A good guess: jax.numpy casts as numpy does; or it clamps, then for all types alike.
# Seen: JAX clamps to int8 and int4, and makes 0 of NaN; to float8_e4m3fn, which has no infinity, it makes NaN of all that is too large, and to
# float8_e5m2 infinity. NumPy wraps to int8. So one line that quantises weights, without a clip of its own, gives other codes in either library
# wherever a weight lies outside.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 numpy==2.4.6 ml_dtypes==0.6.0
cat > "$work/check.py" <<'PY'
import warnings

import jax.numpy as jnp
import ml_dtypes
import numpy as np

warnings.simplefilter("ignore")


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


weights = np.array([300.0, -300.0, 2.5, 3.5])
theirs, seen = weights.astype(np.int8).tolist(), jnp.array(weights).astype(jnp.int8).tolist()
check("300, -300, 2.5, 3.5 as int8 in NumPy", [44, -44, 2, 3], theirs, theirs == [44, -44, 2, 3])
check("in JAX", theirs, seen, seen == [127, -128, 2, 3])
seen = int(jnp.array([jnp.nan]).astype(jnp.int8)[0])
check("NaN as int8 in JAX", "anything", seen, seen == 0)
seen = jnp.array([9.0, -9.0]).astype(jnp.int4).astype(jnp.int32).tolist()
wrapped = np.array([9.0, -9.0]).astype(ml_dtypes.int4).astype(int).tolist()
check("9 and -9 as int4 in JAX, and with ml_dtypes", "the same", (seen, wrapped), seen == [7, -8] and wrapped != seen)
seen = jnp.array([500.0, 1e6]).astype(jnp.float8_e4m3fn).astype(jnp.float32).tolist()
check("500 and a million as float8_e4m3fn in JAX", [448.0, 448.0], seen, bool(np.isnan(seen).all()))
PY
cd "$work"
venv/bin/python check.py
