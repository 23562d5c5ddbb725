#!/usr/bin/env bash
# torch.equal says that the integer 65535 is a float16 infinity, and that 16777217 is 16777216.
#
# Versions: torch 2.13.0, jax 0.10.2, mlx 0.32.4, numpy 2.4.6, all on the CPU.
# A good guess: tensors of two types are not equal, or are compared in a type that holds both; torch.allclose refuses them.
# Seen: the integers are made the other tensor's float first: 65535 as float16 is infinite, so it equals infinity, and 2**24 + 1 as float32
# is 2**24, in JAX and MLX too. NumPy compares in float64 and sees the difference. A bfloat16 tensor equals its float32 copy. So
# torch.equal as the test whether a conversion was exact passes where it was not.
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
seen = torch.equal(torch.tensor([65535]), torch.tensor([float("inf")], dtype=torch.float16))
check("torch.equal(65535, float16 infinity)", False, seen, seen)
integer, number = np.array([2**24 + 1], np.int32), np.array([2**24], np.float32)
for name, seen, still in [
    ("torch.equal", torch.equal(torch.from_numpy(integer), torch.from_numpy(number)), True),
    ("jax.numpy.array_equal", bool(jnp.array_equal(jnp.array(integer), jnp.array(number))), True),
    ("mlx.core.array_equal", mx.array_equal(mx.array(integer), mx.array(number)).item(), True),
    ("numpy.array_equal", bool(np.array_equal(integer, number)), False),
]:
    check(f"{name}(int 2**24 + 1, float32 2**24)", False, seen, seen is still)
seen = torch.equal(torch.ones(3, dtype=torch.bfloat16), torch.ones(3))
check("torch.equal of bfloat16 ones and float32 ones", False, seen, seen)
try:
    seen = torch.allclose(torch.ones(3, dtype=torch.bfloat16), torch.ones(3))
except RuntimeError as error:
    seen = str(error)
check("torch.allclose of the two", "refused", seen, "did not match" in str(seen))
PY
cd "$work"
venv/bin/python check.py
