#!/usr/bin/env bash
# openvino.save_model turns a float32 weight of 100000 into 65504.
#
# Versions: openvino 2026.4.1, numpy 2.4.6.
# A good guess: save_model compresses to float16 by default, but leaves a tensor that float16 cannot
# hold in float32, or writes inf.
# Seen: the tensor is written in float16, the large value is clamped to the largest finite one, small
# ones become 0, without a warning. openvino.serialize writes the numbers as they are.
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


w = np.tile(np.array([1e-8, 1e5, 1.0, 2.0], np.float32), (64, 1))
x = op.parameter([1, 4], ov.Type.f32)
model = ov.Model([op.matmul(x, op.constant(w), False, True)], [x])


def weights(path):
    ops = ov.Core().read_model(path).get_ops()
    data = next(o.get_data() for o in ops if o.get_type_name() == "Constant" and o.get_data().size == w.size)
    return data.dtype.name, data[0].astype(float).tolist()


ov.save_model(model, "a.xml")
ov.serialize(model, "b.xml")
kind, row = weights("a.xml")
check("first row after save_model", "float32 as it was, or inf", (kind, row), kind == "float16" and row[1] == 65504 and row[0] == 0)
kind, row = weights("b.xml")
check("first row after serialize", "float32 as it was", (kind, row), kind == "float32" and row[1] == 1e5)
PY
cd "$work"
venv/bin/python check.py
