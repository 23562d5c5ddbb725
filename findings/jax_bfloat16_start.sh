#!/usr/bin/env bash
# A layer that begins in bfloat16 in JAX has 128 different weights, and none of those that it begins with in float32.
#
# Versions: jax 0.10.2, flax 0.12.8, torch 2.13.0 (on the CPU), numpy 2.4.6.
# A good guess: a start in bfloat16 is the float32 start of the same key, rounded, as in PyTorch: some thousand values.
# Seen: jax.random draws as many bits as the type has digits: normal, uniform and truncated_normal take 128 values in bfloat16 and 1024 in
# float16, however many are drawn. The largest of a million normal numbers is 2.5 in bfloat16 (4.5 in float32), and the same key gives
# unrelated numbers in each type. So layers of strangers share one small set of values, and a start cannot be found again in another type.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 jax==0.10.2 flax==0.12.8 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def drawn(kind):
    return np.asarray(jax.random.normal(jax.random.key(0), (1_000_000,), kind), np.float64)


half, whole = drawn(jnp.bfloat16), drawn(jnp.float32)
seen = [len(np.unique(numbers)) for numbers in (half, drawn(jnp.float16), whole)]
check("different numbers among a million: bfloat16, float16, float32", "thousands", seen, seen[:2] == [128, 1024] and seen[2] > 900_000)
seen = [round(float(np.abs(numbers).max()), 1) for numbers in (half, whole)]
check("the largest, bfloat16 and float32", [4.6, 4.6], seen, seen == [2.9, 4.6])
seen = round(float(np.corrcoef(half, whole)[0, 1]), 2)
check("correlation of the bfloat16 and the float32 draw of one key", 1.0, seen, abs(seen) < 0.01)
layer = nn.Dense(500, param_dtype=jnp.bfloat16).init(jax.random.key(0), jnp.ones((1, 500), jnp.bfloat16))
seen = len(np.unique(np.asarray(layer["params"]["kernel"], np.float32)))
check("different weights of a Dense of 500 x 500 in Flax", "thousands", seen, seen == 128)
first, second = (torch.randn(1_000_000, dtype=kind, generator=torch.Generator().manual_seed(0)).float() for kind in (torch.bfloat16, torch.float32))
seen = [len(torch.unique(first)) > 3000, bool((first - second).abs().max() < 0.05)]
check("PyTorch: thousands of values, near those of float32", [True, True], seen, seen == [True, True])
PY
cd "$work"
venv/bin/python check.py
