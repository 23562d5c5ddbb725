#!/usr/bin/env bash
# OpenVINO packs u2 and u4 from the low bit, u1 from the high bit, and splits u3 and u6 in two planes.
#
# Versions: openvino 2026.4.1, numpy 2.4.6.
# A good guess: one rule for all small types: a stream of bits from the low end.
# Seen: eight u3 values are three bytes: twice the low two bits of four values, first value in the
# highest bits, then a byte with the eight top bits. Four u6 values: low four bits of two values in each
# of two bytes, then a byte with the top two bits of all. u2 and u4 start at the low bit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
import openvino as ov
from openvino import opset13 as op


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def packed(kind, values):
    constant = op.constant(np.array(values, np.uint8), dtype=getattr(ov.Type, kind))
    ov.serialize(ov.Model([op.convert(constant, "f32")], []), "m.xml")
    return [f"{b:08b}" for b in open("m.bin", "rb").read()]


for kind, values, guess, still in [
    ("u1", [1, 0, 0, 0, 0, 0, 0, 0], ["00000001"], ["10000000"]),
    ("u2", [1, 2, 3, 0], ["00111001"], ["00111001"]),
    ("u4", [1, 2], ["00100001"], ["00100001"]),
    ("u3", [1, 2, 3, 4, 5, 6, 7, 0], ["11010001", "01011000", "00011111"], ["01101100", "01101100", "00011110"]),
    ("u6", [1, 2, 3, 63], ["10000001", "00110000", "11111100"], ["00010010", "00111111", "00000011"]),
]:
    seen = packed(kind, values)
    check(f"{kind} {values}", guess, seen, seen == still)
PY
cd "$work"
venv/bin/python check.py
