#!/usr/bin/env bash
# Three thousand bfloat16 ones summed by group are 256 by index_add and 3008 by scatter_add; their segment mean is 0.085.
#
# Versions: torch 2.13.0, jax 0.10.2, mlx 0.32.4, numpy 2.4.6, all on the CPU.
# A good guess: the ways to add by group agree, and add in float32 as sum does.
# Seen: index_add, index_put, coalescing a sparse tensor and its product with a vector add in the tensor's type, one by one, and stand still
# where one more no longer changes the sum; so do JAX' segment_sum and MLX' at[].add. PyTorch's scatter_add, sum and mean do not.
# segment_reduce divides the sum that stood still: the mean of ones is 0.085. Gradients of embeddings and averages of layers are such sums.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6 jax==0.10.2 'mlx[cpu]==0.32.4'
cat > "$work/check.py" <<'PY'
import warnings

import jax
import jax.numpy as jnp
import mlx.core as mx
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


warnings.simplefilter("ignore")
ones, places, start = torch.ones(3000, dtype=torch.bfloat16), torch.zeros(3000, dtype=torch.long), torch.zeros(1, dtype=torch.bfloat16)
ways = {
    "index_add": (start.index_add(0, places, ones), 256),
    "index_put": (start.index_put((places,), ones, accumulate=True), 256),
    "sparse_coo_tensor to dense": (torch.sparse_coo_tensor(places[None], ones).to_dense(), 256),
    "sparse @ dense": (ones[None].to_sparse() @ ones[:, None], 256),
    "scatter_add": (start.scatter_add(0, places, ones), 3008),
    "sum": (ones.sum(), 3008),
}
for name, (sum_, still) in ways.items():
    check(f"PyTorch, {name}", 3008.0, float(sum_), float(sum_) == still)
seen = round(float(torch.segment_reduce(ones, "mean", lengths=torch.tensor([3000]))), 3)
check("PyTorch, segment_reduce, mean", 1.0, seen, seen == 0.085)
seen = float(jax.ops.segment_sum(jnp.ones(3000, jnp.bfloat16), jnp.zeros(3000, int), 1)[0])
check("JAX, segment_sum", 3008.0, seen, seen == 256)
mx.set_default_device(mx.cpu)
seen = mx.zeros((1,), dtype=mx.bfloat16).at[mx.zeros((3000,), dtype=mx.int32)].add(mx.ones((3000,), dtype=mx.bfloat16)).item()
check("MLX, at[].add", 3008.0, seen, seen == 256)
PY
cd "$work"
venv/bin/python check.py
