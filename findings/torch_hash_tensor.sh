#!/usr/bin/env bash
# torch.hash_tensor gives a matrix and its transpose one hash, and all tensors of an even number of equal values the hash 0.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: the hash tells tensors of other order or values apart, as a hash of the bytes does; equal hashes mean equal tensors.
# Seen: the numbers are made float64 and joined by XOR. Order and shape do not matter, and what is there twice cancels: zeros, ones and
# sevens have the hash 0, as has a table written twice. bfloat16 and float32 of equal values have one hash. So permuted
# units are not seen, and fresh norms and biases all look alike.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


matrix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))


def same(a, b):
    return bool(torch.hash_tensor(a) == torch.hash_tensor(b))


check("a matrix and its transpose have one hash", False, same(matrix, matrix.T), same(matrix, matrix.T))
turned = matrix[torch.randperm(64, generator=torch.Generator().manual_seed(1))]
check("a matrix and its rows in another order", False, same(matrix, turned), same(matrix, turned))
seen = [int(torch.hash_tensor(torch.full((8,), value))) for value in (0.0, 1.0, 7.0)]
check("hashes of eight zeros, ones, sevens", "three", seen, seen == [0, 0, 0])
seen = int(torch.hash_tensor(torch.cat([matrix, matrix])))
check("the hash of a table written twice", "not 0", seen, seen == 0)
seen = same(matrix.bfloat16(), matrix.bfloat16().float())
check("bfloat16 and float32 of equal values have one hash", False, seen, seen)
seen = same(matrix, matrix + 1)
check("a matrix and that plus one", False, seen, not seen)
PY
cd "$work"
venv/bin/python check.py
