#!/usr/bin/env bash
# To numpy.corrcoef a vector of 0.1 and a vector of 0.7 correlate at -1.0, and gains of 0.1 and 0.2 at 1.0.
#
# Versions: numpy 2.4.6, scipy 1.17.1.
# A good guess: the correlation with a constant is NaN, with a warning of a division by zero, as numpy gives it for vectors of ones.
# Seen: in float64 the mean of equal numbers is often off by a unit in the last place; every number is then as far from it, and two such
# vectors agree perfectly: 1.0 or -1.0 for two thirds of all pairs of constants below 4 with one decimal, with no warning. In float32 it does
# not happen, since the mean is worked out in more. SciPy's pearsonr looks for constants, and gives NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
from scipy import stats


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def constant(value, dtype=np.float64):
    """The gains of a norm that was never trained, times a number."""
    return np.full(768, value, dtype)


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


warnings.simplefilter("error")  # neither of the first two warns
seen = correlation(constant(0.1), constant(0.7))
check("constants 0.1 and 0.7", "nan", seen, seen < -0.999)
seen = correlation(constant(0.1), constant(0.2))
check("constants 0.1 and 0.2", "nan", seen, seen > 0.999)
warnings.simplefilter("ignore")
seen = correlation(constant(1.0), constant(1.0))
check("ones and ones", "nan", seen, np.isnan(seen))
values = np.arange(1, 40) / 10
pairs = [abs(correlation(constant(a), constant(b))) for a in values for b in values]
share = float(np.mean(np.array(pairs) > 0.99))
check("share of 1,521 pairs of constants with a correlation of 1 or -1", 0.0, round(share, 2), share > 0.1)
single = [correlation(constant(a, np.float32), constant(b, np.float32)) for a in values for b in values]
check("the same as float32", 0.0, float(np.mean(~np.isnan(single))), np.isnan(single).all())
theirs = float(stats.pearsonr(constant(0.1), constant(0.7)).statistic)
check("SciPy's pearsonr of 0.1 and 0.7", "nan", theirs, np.isnan(theirs))
PY
cd "$work"
venv/bin/python check.py
