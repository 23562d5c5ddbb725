#!/usr/bin/env bash
# The mean of a float16 array is safe from overflow in NumPy, its variance and norm are not.
#
# Version: numpy 2.4.6.
# A good guess: var, std and np.linalg.norm work in float32 inside, as mean does for float16.
# Seen: mean([100, ...]) is 100 although the sum is above 65504, but np.linalg.norm of the same
# array is inf, and so are var and std of 0..999.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


warnings.simplefilter("ignore")
h = np.full(1000, 100, np.float16)
ramp = np.arange(1000, dtype=np.float16)
check("mean of 1000 hundreds", 100.0, h.mean(), h.mean() == 100)
check("norm of 1000 hundreds", 3162.0, np.linalg.norm(h), np.isinf(np.linalg.norm(h)))
check("mean of 0..999", 499.5, ramp.mean(), ramp.mean() == 499.5)
check("var of 0..999", "inf, 83333 is above 65504", ramp.var(), np.isinf(ramp.var()))
check("std of 0..999", 288.7, ramp.std(), np.isinf(ramp.std()))
PY
cd "$work"
venv/bin/python check.py
