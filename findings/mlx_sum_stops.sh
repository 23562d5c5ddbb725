#!/usr/bin/env bash
# The mean of 33 million ones is 0.5 in MLX.
#
# Versions: mlx 0.32.4 (on the CPU), numpy 2.4.6.
# A good guess: float32 sums are made in parts, as NumPy's and PyTorch's are, so that means of large arrays are good to six digits.
# Seen: one running sum takes number after number and stands still at 16,777,216, above which 1 is less than a step. The mean of 2**25
# ones is 0.5, of 2**26 a quarter; the variance of ones is 0.125 and not 0; the norm and x @ x are too small by the same. A table of 128,000 x 1024
# is four times as large. Sums along one axis of a matrix are good.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile 'mlx[cpu]==0.32.4' numpy==2.4.6
cat > "$work/check.py" <<'PY'
import mlx.core as mx
import numpy as np

mx.set_default_device(mx.cpu)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


for power, mean in [(24, 1.0), (25, 0.5), (26, 0.25)]:
    seen = mx.ones(2**power).mean().item()
    check(f"mean of 2**{power} ones", float(np.ones(2**power, np.float32).mean()), seen, seen == mean)
ones = mx.ones(2**25)
seen = [mx.var(ones).item(), mx.linalg.norm(ones).item() ** 2, (ones @ ones).item()]
check("variance, squared norm and x @ x of 2**25 ones", [0.0, 2.0**25, 2.0**25], seen, seen == [0.125, 2.0**24, 2.0**24])
seen = mx.mean(ones.reshape(1024, -1).sum(axis=1)).item() / 2**15
check("the mean of sums along an axis", 1.0, seen, seen == 1.0)
PY
cd "$work"
venv/bin/python check.py
