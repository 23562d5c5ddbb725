#!/usr/bin/env bash
# The length of an int8 row of three hundreds is 6.93 in scipy.sparse and in MLX.
#
# Versions: scipy 1.17.1, mlx 0.32.4 (on the CPU), jax 0.10.2, numpy 2.4.6.
# A good guess: 173.2, as NumPy and JAX give it and as both libraries' sums and means of int8 are right.
# Seen: the squares are made in int8, where 100 * 100 is 16. scipy.sparse.linalg.norm does so with an axis; without one it is right, so rows of
# 6.93 make up a matrix of 244.9. Quantised codes brought to length 1 by it are not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile scipy==1.17.1 numpy==2.4.6 'mlx[cpu]==0.32.4' jax==0.10.2
cat > "$work/check.py" <<'PY'
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import norm


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


codes = np.full((2, 3), 100, np.int8)
sparse = csr_array(codes)
rows = [round(float(r), 2) for r in norm(sparse, axis=1)]
check("scipy.sparse.linalg.norm(codes, axis=1)", [173.21, 173.21], rows, rows == [6.93, 6.93])
whole = round(float(norm(sparse)), 2)
check("scipy.sparse.linalg.norm(codes)", 244.95, whole, whole == 244.95)
mx.set_default_device(mx.cpu)
array = mx.array(codes[0])
seen = [round(mx.linalg.norm(array).item(), 2), array.sum().item(), array.mean().item()]
check("MLX: norm, sum and mean of a row", [173.21, 300, 100.0], seen, seen == [6.93, 300, 100.0])
seen = [round(float(np.linalg.norm(codes[0])), 2), round(float(jnp.linalg.norm(jnp.array(codes[0]))), 2)]
check("NumPy's and JAX' norm of the row", [173.21, 173.21], seen, seen == [173.21, 173.21])
PY
cd "$work"
venv/bin/python check.py
