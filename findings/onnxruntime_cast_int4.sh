#!/usr/bin/env bash
# ONNX Runtime casts 2.5 to 3 as int4 and to 2 as int8.
#
# Versions: onnx 1.23.2, onnxruntime 1.31.1, numpy 2.4.6.
# A good guess: Cast from float to any integer type cuts the fraction off (the ONNX text says so, and
# ONNX's own reference evaluator does it).
# Seen: to int4 and uint4 the CPU provider rounds half away from zero, to int8 and int32 it cuts; and
# 7.5 becomes -8 as int4, since the rounded 8 wraps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.31.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


x = np.array([2.5, 2.7, -1.5, -0.5, 7.5], np.float32)


def cast(to):
    nodes = [helper.make_node("Cast", ["x"], ["q"], to=to), helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]),
                              opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0].tolist(), ReferenceEvaluator(model).run(None, {"x": x})[0].tolist()


cut = [2.0, 2.0, -1.0, 0.0, 7.0]
for name, still in [("INT8", cut), ("INT32", cut), ("INT4", [3.0, 3.0, -2.0, -1.0, -8.0])]:
    seen, reference = cast(getattr(TensorProto, name))
    check(f"{x.tolist()} cast to {name} and back", cut, seen, seen == still and reference == cut)
PY
cd "$work"
venv/bin/python check.py
