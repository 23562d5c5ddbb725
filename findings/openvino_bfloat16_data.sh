#!/usr/bin/env bash
# The data of an OpenVINO constant in bfloat16 come as float16 numbers: 1.5 is 1.9375, and 70000 is 7.53.
#
# Versions: openvino 2026.4.1, numpy 2.4.6.
# A good guess: .data gives the numbers, as float32 since NumPy has no bfloat16, or raw bytes or uint16.
# Seen: the sixteen bits are shown under the type float16, so they are other numbers of a plausible size. get_data(dtype=np.float32) gives the right
# ones. Making the constant from float32 cuts the lower bits off where it could round: 0.1 is 0.09961 and not 0.1001.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile openvino==2026.4.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
import openvino as ov
import openvino.opset13 as ops


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


constant = ops.constant(np.array([1.5, 70000, 0.1], np.float32), ov.Type.bf16)
seen = [round(float(number), 4) for number in constant.data]
check("data of 1.5, 70000, 0.1", [1.5, 70144.0, 0.1001], seen, seen == [1.9375, 7.5312, 1.4492])
check("their type, of a constant that says bfloat16", "float32, uint16 or V2", constant.data.dtype.name, constant.data.dtype == np.float16)
seen = [round(float(number), 5) for number in constant.get_data(dtype=np.float32)]
check("get_data(dtype=np.float32)", [1.5, 70144.0, 0.1001], seen, seen == [1.5, 69632.0, 0.09961])
PY
cd "$work"
venv/bin/python check.py
