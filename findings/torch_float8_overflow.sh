#!/usr/bin/env bash
# PyTorch turns infinity into 448 as float8_e4m3fn, and keeps it as float8_e5m2.
#
# Versions: torch 2.13.0 on the CPU, ml_dtypes 0.6.0, numpy 2.4.6.
# A good guess: a cast does not saturate: above 464 e4m3fn gives NaN (so ml_dtypes and JAX) and e5m2
# gives inf.
# Seen: in PyTorch the cast to e4m3fn saturates, even inf, while e5m2 still goes to inf. So an overflow
# cannot be seen afterwards, and the same float32 file gives other bytes by PyTorch than by ml_dtypes.
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


x = np.array([448, 464, 465, 1e9, np.inf, -np.inf, np.nan], np.float32)
for name, still in [("float8_e4m3fn", [448, 448, 448, 448, 448, -448, np.nan]),
                    ("float8_e5m2", [448, 448, 448, np.inf, np.inf, -np.inf, np.nan])]:
    seen = torch.tensor(x).to(getattr(torch, name)).float().tolist()
    peer = x.astype(getattr(ml_dtypes, name)).astype(np.float32).tolist()
    check(f"{x.tolist()} as {name}", f"as ml_dtypes: {peer}", seen,
          np.array_equal(seen, still, equal_nan=True) and np.array_equal(seen, peer, equal_nan=True) == (name == "float8_e5m2"))
PY
cd "$work"
venv/bin/python check.py
