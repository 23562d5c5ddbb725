#!/usr/bin/env bash
# The mean of float16 numbers near 300 is 300, and their nanmean infinite, in NumPy, PyTorch and JAX alike.
#
# Versions: numpy 2.4.6, torch 2.13.0, jax 0.10.2, all on the CPU.
# A good guess: nanmean is mean without the NaNs, and is worked out as mean is, in float32 inside; without a NaN the two agree.
# Seen: nanmean sums in float16, where more than 65504 is infinite, and divides then; torch.masked.mean does the same. PyTorch's corrcoef of
# a float16 row with itself is NaN, as is JAX', although std and the lengths of such rows are right in PyTorch.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6 jax==0.10.2
cat > "$work/check.py" <<'PY'
import warnings

import jax.numpy as jnp
import numpy as np
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


warnings.simplefilter("ignore")
numbers = np.full(3000, 300, np.float16)
tensor, array = torch.from_numpy(numbers), jnp.array(numbers)
for name, mean, nanmean in [("NumPy", np.mean(numbers), np.nanmean(numbers)), ("PyTorch", torch.mean(tensor), torch.nanmean(tensor)),
                            ("JAX", jnp.mean(array), jnp.nanmean(array))]:
    seen = [float(mean), float(nanmean)]
    check(f"{name}: mean and nanmean of 3000 float16 numbers 300", [300.0, 300.0], seen, seen == [300.0, np.inf])
seen = float(torch.masked.mean(tensor, mask=torch.ones(3000, dtype=torch.bool)))
check("torch.masked.mean of all of them", 300.0, seen, seen == np.inf)
row = torch.arange(1000).half()
seen = [float(torch.corrcoef(torch.stack([row, row]))[0, 1]), float(jnp.corrcoef(jnp.array(row.numpy()), jnp.array(row.numpy()))[0, 1])]
check("the correlation of a float16 row with itself, PyTorch and JAX", [1.0, 1.0], seen, bool(np.isnan(seen).all()))
seen = round(float(row.std()))
check("PyTorch's standard deviation of the row", 289, seen, seen == 289)
PY
cd "$work"
venv/bin/python check.py
