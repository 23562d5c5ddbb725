#!/usr/bin/env bash
# One NaN among the p-values makes every corrected one NaN, and statsmodels rejects all the same.
#
# Versions: statsmodels 0.15.0, scipy 1.17.1, numpy 2.4.6.
# A good guess: a NaN (a test that could not be made) raises, or stays NaN alone while the others are corrected.
# Seen: with fdr_bh and fdr_by all corrected p-values are NaN, while the flags beside them still say which are rejected, counted with the
# NaN as one test more. With holm the NaN stays alone. SciPy's false_discovery_control refuses it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile statsmodels==0.15.0 scipy==1.17.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


p = [0.0001, 0.0002, float("nan"), 0.5]
for method in ("fdr_bh", "fdr_by"):
    rejected, corrected, *_ = multipletests(p, method=method)
    still = bool(np.isnan(corrected).all()) and rejected.tolist() == [True, True, False, False]
    check(f"{method} of {p}", "three numbers and one NaN", (rejected.tolist(), corrected.tolist()), still)
_, corrected, *_ = multipletests(p, method="holm")
check(f"holm of {p}", "three numbers and one NaN", corrected.tolist(), np.isnan(corrected).tolist() == [False, False, True, False])
try:
    seen = false_discovery_control(p, method="by").tolist()
except ValueError as error:
    seen = f"ValueError: {error}"
check("SciPy's", "the same as statsmodels'", seen, str(seen).startswith("ValueError"))
PY
cd "$work"
venv/bin/python check.py
