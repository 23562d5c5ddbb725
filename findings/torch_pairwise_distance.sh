#!/usr/bin/env bash
# To torch's pairwise_distance a vector is at a distance from itself, and the way there is not the way back.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: the distance of a vector from itself is 0; the eps of 1e-6 only guards a root or a division.
# Seen: eps is added to each difference, so a vector of d numbers is at 1e-6 * sqrt(d) from itself (d * 1e-6 with p = 1), the
# distance from x to y is not the one from y to x, and differences near 1e-6 vanish one way and double the other way. Copies are not at 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import torch
from torch.nn.functional import pairwise_distance


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


ones = torch.ones(1, 10_000)
seen = round(float(pairwise_distance(ones, ones)), 6)
check("10,000 numbers: the distance from itself", 0.0, seen, seen == 0.0001)
seen = round(float(pairwise_distance(ones, ones, p=1)), 4)
check("the same with p = 1", 0.0, seen, seen == 0.01)
first, second = torch.zeros(1, 100), torch.full((1, 100), 1e-6)
seen = [float(f"{float(pairwise_distance(a, b)):.2g}") for a, b in ((first, second), (second, first))]
check("from x to y and from y to x, 1e-6 apart in each of 100 numbers", [1e-05, 1e-05], seen, seen[0] < 1e-9 and seen[1] == 2e-05)
seen = float(torch.linalg.vector_norm(ones - ones))
check("vector_norm of the difference", 0.0, seen, seen == 0.0)
PY
cd "$work"
venv/bin/python check.py
