#!/usr/bin/env bash
# To JAX 1e-40 is equal to zero, and a bfloat16 1e-39 is equal to zero and counted as not zero.
#
# Versions: jax 0.10.2, torch 2.13.0, mlx 0.32.4, numpy 2.4.6, all on the CPU.
# A good guess: comparing does not change numbers: 1e-40 is no zero in float32, as in NumPy, PyTorch and MLX.
# Seen: numbers below 1.2e-38 are taken as 0 by arithmetic and comparisons, while max and np.asarray keep their bits. So array_equal
# says that arrays of other bytes are equal, and sparsity counts an optimiser's tiny moments as zeros; in bfloat16 it counts them.
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
half = jnp.array([1e-39], jnp.bfloat16)
seen = [bool((half == 0)[0]), int(jnp.count_nonzero(half))]
check("JAX: bfloat16 1e-39 equals zero, and how many are not zero of it", [False, 1], seen, seen == [True, 1])
PY
cd "$work"
venv/bin/python check.py
