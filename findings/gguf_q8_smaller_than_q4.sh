#!/usr/bin/env bash
# GGUF's 8-bit type loses small weights that its 4-bit type keeps.
#
# Versions: gguf 0.19.0, numpy 2.4.6.
# A good guess: more bits lose less: what Q4_0 resolves, Q8_0 resolves too.
# Seen: both keep a block's scale in half precision: a 127th of the largest number in Q8_0, an eighth in Q4_0. Blocks whose
# largest number is below 3.8e-6 come back as zeros from Q8_0, and within a few per cent from Q4_0; at the other end
# 8.4e6 is infinite in Q8_0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile gguf==0.19.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
from gguf import GGMLQuantizationType, dequantize, quantize


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def back(kind, number):
    block = np.full((1, 32), number, np.float32)
    with np.errstate(all="ignore"):
        return float(dequantize(quantize(block, GGMLQuantizationType[kind]), GGMLQuantizationType[kind])[0, 0])


eight, four = back("Q8_0", 1e-6), back("Q4_0", 1e-6)
check("a block of 1e-6 in Q8_0", 1e-6, eight, eight == 0)
check("the same in Q4_0", 1e-6, four, abs(four - 1e-6) < 1e-7)
large = back("Q8_0", 1e7)
check("a block of 1e7 in Q8_0", 1e7, large, large == float("inf"))
PY
cd "$work"
venv/bin/python check.py
