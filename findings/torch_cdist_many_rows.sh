#!/usr/bin/env bash
# torch.cdist says that a row is 2.0 away from itself, once there are more than 25 rows.
#
# Versions: torch 2.13.0 on the CPU, numpy 2.4.6.
# A good guess: the distance of a row from itself is 0, and does not depend on how many other rows there are.
# Seen: above 25 rows on a side the default multiplies matrices (x'x - 2x'y + y'y), which loses what differs where numbers lie far
# from 0. Vectors near 1000 with a spread of 1 are then up to a unit or two from themselves; with 25 rows they are at 0.
# compute_mode="donot_use_mm_for_euclid_dist" gives 0 always.
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


torch.manual_seed(0)
rows = 1000 + torch.randn(30, 16)
few, many = (float(torch.cdist(x, x).diagonal().max()) for x in (rows[:25], rows))
exact = float(torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").diagonal().max())
check("largest distance of one of 25 rows from itself", 0.0, few, few == 0)
check("the same of 30 rows", 0.0, many, many > 0.5)
check("the same without matrix products", 0.0, exact, exact == 0)
PY
cd "$work"
venv/bin/python check.py
