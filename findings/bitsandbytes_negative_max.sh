#!/usr/bin/env bash
# bitsandbytes' 8-bit blocks keep the largest value if it is positive, and shrink it if negative.
#
# Versions: bitsandbytes 0.50.2, torch 2.13.0, on the CPU.
# A good guess: the value of largest magnitude in a block is scaled to 1 or -1 and comes back exactly, as in
# NF4.
# Seen: the 8-bit dynamic code has 1.0 but not -1.0 (its lowest is -0.993), so a block whose extreme is
# negative loses 0.7 % of it, and quantising the result again shrinks it each time.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 bitsandbytes==0.50.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import bitsandbytes.functional as f
import torch


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def once(x):
    return f.dequantize_blockwise(*f.quantize_blockwise(x))


x = torch.tensor([1.0, -0.5, 0.25, 0.0])
plus, minus = once(x)[0].item(), once(-x)[0].item()
check("1.0, the largest of its block", 1.0, plus, plus == 1.0)
check("-1.0, the largest of its block", -1.0, round(minus, 4), -0.994 < minus < -0.992)
y = -x
for _ in range(10):
    y = once(y)
check("-1.0 after ten rounds", round(minus, 4), round(y[0].item(), 4), y[0].item() > -0.94)
n = torch.zeros(64)
n[0], n[1] = -1.0, 0.5
four = f.dequantize_4bit(*f.quantize_4bit(n, quant_type="nf4")).flatten()[0].item()
check("-1.0 by NF4", -1.0, four, four == -1.0)
PY
cd "$work"
venv/bin/python check.py
