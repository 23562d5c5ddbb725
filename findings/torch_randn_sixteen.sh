#!/usr/bin/env bash
# With one seed torch.randn(15) and torch.randn(16) have no number in common.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: a generator gives one sequence, so a shorter draw is the beginning of a longer one, as in NumPy and JAX;
# and float64 gives the same numbers with more digits.
# Seen: from 16 numbers on another method is used. Where the count is no multiple of 16 the last 16 are drawn again, so
# 20 numbers begin like 32 in the first four alone. In float64 eight numbers are those of float32 and sixty-four are others.
# torch.rand does give one sequence. So two layers begun from one public seed may share all, few or none of their numbers.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def drawn(count, draw=torch.randn, **more):
    torch.manual_seed(0)
    return draw(count, **more)


def alike(a, b):
    return int((drawn(a) == drawn(b)[:a]).sum())


seen = [alike(15, 16), alike(16, 32), alike(20, 32)]
check("equal numbers of 15 and 16, 16 and 32, 20 and 32", [15, 16, 20], seen, seen == [0, 16, 4])
off = [float((drawn(count, dtype=torch.float64) - drawn(count)).abs().max()) for count in (8, 64)]
check("largest difference of float64 and float32, of 8 and of 64", "1e-7 both", off, off[0] < 1e-6 and off[1] > 1)
even = bool((drawn(15, torch.rand) == drawn(16, torch.rand)[:15]).all())
check("torch.rand: 15 begin 16", True, even, even)
numpy = np.array_equal(np.random.default_rng(0).standard_normal(15), np.random.default_rng(0).standard_normal(16)[:15])
check("NumPy: 15 begin 16", True, numpy, numpy)
PY
cd "$work"
venv/bin/python check.py
