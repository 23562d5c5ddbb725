#!/usr/bin/env bash
# torch.zeros of float8_e8m0fnu is not zero, and casting to that type drops the sign.
#
# Versions: torch 2.13.0 on the CPU, ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: the type has neither zero nor sign, so 0 and -3 become NaN, as in ml_dtypes.
# Seen: 0 becomes 2**-127, which prints as 0, and -3 becomes 4. Negative block scales lose their sign
# without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 ml_dtypes==0.6.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import ml_dtypes
import numpy as np
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


z = torch.zeros(2, dtype=torch.float8_e8m0fnu).float().tolist()
check("torch.zeros(2, dtype=float8_e8m0fnu).float()", "NaN or an error", z, z == [2.0**-127] * 2)
x = np.array([0.0, -1.0, -3.0, 3.0], np.float32)
seen = torch.tensor(x).to(torch.float8_e8m0fnu).float().tolist()
peer = x.astype(ml_dtypes.float8_e8m0fnu).astype(np.float32).tolist()
check(f"{x.tolist()} as float8_e8m0fnu", f"as ml_dtypes: {peer}", seen,
      seen == [2.0**-127, 1.0, 4.0, 4.0] and np.isnan(peer[:3]).all())
PY
cd "$work"
venv/bin/python check.py
