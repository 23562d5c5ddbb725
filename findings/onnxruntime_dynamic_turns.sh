#!/usr/bin/env bash
# ONNX Runtime's dynamic quantisation stores the transpose of a Linear's weights.
#
# Versions: onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6.
# A good guess: quantize_dynamic replaces each weight by a tensor of its shape with a scale and a zero point, as
# quantize_static does, or leaves a Gemm alone.
# Seen: a Gemm with transB = 1, as every exported Linear is, becomes MatMulInteger; its weight (out, in) is stored turned,
# as (in, out), under its name with "_quantized". Of a square weight the shape does not tell.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 onnx-ir==1.1.0 numpy==2.4.6 sympy
cat > "$work/check.py" <<'PY'
import logging

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


logging.disable()
w = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in "xy")
tensors = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.zeros(8, np.float32), "b")]
graph = helper.make_graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], "g", [x], [y], tensors)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "a.onnx")
quantize_dynamic("a.onnx", "b.onnx")
model = onnx.load("b.onnx")
kept = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
values = (kept["w_quantized"].astype(np.float32) - np.float32(kept["w_zero_point"])) * kept["w_scale"]
off = [float(np.abs(values - one).max()) for one in (w, w.T)]
check("largest difference from the weight and from its transpose", "0.02 and 3", [round(one, 2) for one in off], off[0] > 1 > 0.05 > off[1])
kinds = [node.op_type for node in model.graph.node]
check("operators", "Gemm among them", kinds, "Gemm" not in kinds and "MatMulInteger" in kinds)
PY
cd "$work"
venv/bin/python check.py
