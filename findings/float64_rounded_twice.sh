#!/usr/bin/env bash
# PyTorch, JAX and MLX round float64 to float16 in two steps, NumPy in one: the same weights are other bytes.
#
# Versions: torch 2.13.0, jax 0.10.2, mlx 0.32.4 (all on the CPU), ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: a cast gives the nearest number, ties to even, and IEEE 754 leaves no choice.
# Seen: NumPy's float16 is the nearest; the others go by way of float32, and a number just above the middle between two float16 numbers
# becomes the middle first and then the lower one. ml_dtypes does so for bfloat16 and float8. Of a million random numbers
# dozens differ in their last bit, so digests of a file converted by NumPy and by PyTorch differ.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 jax==0.10.2 'mlx[cpu]==0.32.4' ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import jax
import jax.numpy as jnp
import ml_dtypes
import mlx.core as mx
import numpy as np
import torch

mx.set_default_device(mx.cpu)
jax.config.update("jax_enable_x64", True)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


above = np.array(1 + 2**-11 + 2**-40)  # the float16 numbers around are 1 and 1 + 2**-10
nearest = 1 + 2**-10
seen = {
    "numpy": float(above.astype(np.float16)),
    "torch": float(torch.from_numpy(above[None]).half()),
    "jax": float(jnp.asarray(above).astype(jnp.float16)),
    "mlx": float(mx.array(float(above), mx.float64).astype(mx.float16).item()),
}
check("1 + 2**-11 + 2**-40 as float16", nearest, seen, seen == {"numpy": nearest, "torch": 1.0, "jax": 1.0, "mlx": 1.0})
for name, bits in [("bfloat16", 8), ("float8_e4m3fn", 4)]:
    half = np.array(1 + 2.0**-bits + 2**-40)
    seen = [float(half.astype(getattr(ml_dtypes, name))), float(torch.from_numpy(half[None]).to(getattr(torch, name)).float())]
    check(f"1 + 2**-{bits} + 2**-40 as {name}, by ml_dtypes and torch", 1 + 2.0 ** (1 - bits), seen, seen == [1.0, 1.0])
x = np.random.default_rng(0).standard_normal(1_000_000)
seen = int((x.astype(np.float16) != torch.from_numpy(x).half().numpy()).sum())
check("of a million normal numbers, those that NumPy and PyTorch round differently", 0, seen, 20 < seen < 200)
PY
cd "$work"
venv/bin/python check.py
