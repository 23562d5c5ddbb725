#!/usr/bin/env bash
# SciPy's kurtosis of float16 weights is -0.3 where that of the same numbers as float32 is 0.02, and their variance NaN.
#
# Versions: scipy 1.17.1, numpy 2.4.6.
# A good guess: statistics of half precision are worked out in more, as numpy.mean does, and rounded at the end.
# Seen: the moments stay in float16, where the fourth powers of weights of size 0.02 are below the smallest number. Nothing warns of it.
# Of 100,000 such weights tvar and normaltest give NaN, and iqr an IndexError, since 100,000 is more than float16 holds.
# wasserstein_distance, energy_distance and ks_2samp are right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
from scipy import stats

warnings.simplefilter("ignore", RuntimeWarning)


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


weights = (0.02 * np.random.default_rng(0).standard_normal(100_000)).astype(np.float16)
single = weights.astype(np.float32)
half, right = float(stats.kurtosis(weights)), float(stats.kurtosis(single))
check("kurtosis, of float16", f"{right:.3f}", f"{half:.3f}", abs(right) < 0.05 and half < -0.2)
variance = float(stats.tvar(weights))
check("tvar", f"{float(stats.tvar(single)):.6f}", variance, np.isnan(variance))
statistic = float(stats.normaltest(weights).statistic)
check("normaltest", f"{float(stats.normaltest(single).statistic):.2f}", statistic, np.isnan(statistic))
try:
    range_ = stats.iqr(weights)
except IndexError as error:
    range_ = repr(error)
check("iqr", f"{float(stats.iqr(single)):.4f}", range_, "IndexError" in str(range_))
distance = float(stats.wasserstein_distance(weights, weights + np.float16(0.01)))
check("wasserstein_distance to what lies 0.01 higher", 0.01, round(distance, 4), abs(distance - 0.01) < 1e-4)
PY
cd "$work"
venv/bin/python check.py
