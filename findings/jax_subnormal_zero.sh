#!/usr/bin/env bash
# To JAX 1e-40 is equal to zero, and bfloat16 1e-39 too; float16's 6e-8 is not.
#
# Versions: jax 0.10.2, torch 2.13.0, mlx 0.32.4, numpy 2.4.6, all on the CPU.
# A good guess: comparing does not change numbers: 1e-40 is no zero in float32, as in NumPy, PyTorch and MLX.
# Seen: numbers below 1.2e-38 are taken as 0 by arithmetic and comparisons, while conversions and np.asarray keep their bits. So array_equal
# says that two arrays of other bytes are equal, count_nonzero counts a dead unit's moments as zeros, and as float16 the number is 0 for both.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6 jax==0.10.2 'mlx[cpu]==0.32.4'
cat > "$work/check.py" <<'PY'
import jax.numpy as jnp
import mlx.core as mx
import numpy as np
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


mx.set_default_device(mx.cpu)
small = np.full(3, 1e-40, np.float32)
array = jnp.array(small)
for name, seen, still in [("JAX", int(jnp.count_nonzero(array)), 0), ("NumPy", int(np.count_nonzero(small)), 3),
                          ("PyTorch", int(torch.count_nonzero(torch.from_numpy(small))), 3), ("MLX", (mx.array(small) != 0).sum().item(), 3)]:
    check(f"{name}: numbers that are not zero of three 1e-40", 3, seen, seen == still)
seen = bool(jnp.array_equal(array, jnp.zeros(3)))
check("JAX: array_equal with zeros", False, seen, seen)
seen = bool(np.array_equal(np.asarray(array), small))
check("their bits are still there", True, seen, seen)
seen = [int(jnp.count_nonzero(jnp.array([1e-39], jnp.bfloat16))), int(jnp.count_nonzero(jnp.array([6e-8], jnp.float16)))]
check("JAX: bfloat16 1e-39 and float16 6e-8", [1, 1], seen, seen == [0, 1])
PY
cd "$work"
venv/bin/python check.py
