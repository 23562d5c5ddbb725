#!/usr/bin/env bash
# About half of the scales of MLX's affine and ONNX Runtime's symmetric quantisation are negative.
#
# Versions: mlx 0.32.4, onnx 1.23.2, onnx-ir 1.1.0, onnxruntime 1.31.1, numpy 2.4.6.
# A good guess: a scale is a step width, so it is positive (MLX: (max - min) / 15; ONNX Runtime:
# absmax / 7 or absmax / 8).
# Seen: both put the end of larger magnitude on an exact code and let the sign of the scale say which
# end it was. A check for scale > 0 refuses good files, and log(scale) is nan. In a group of equal
# values MLX's scale is -1e-7.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'mlx[cpu]==0.32.4' onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.31.1 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging

import mlx.core as mx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


logging.disable(logging.INFO)
w = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
q, scales, biases = mx.quantize(mx.array(w), group_size=64, bits=4)
back = np.array(mx.dequantize(q, scales, biases, group_size=64, bits=4))
share = float((np.array(scales) < 0).mean())
check("share of negative scales, MLX affine 4 bits", 0.0, share, 0.3 < share < 0.7 and np.abs(back - w).max() < 0.5)
flat = float(mx.quantize(mx.ones((1, 64)) * 3)[1].item())
check("scale of 64 equal values, MLX", "0, 1 or tiny and positive", flat, flat < 0)
info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, s]) for n, s in (("x", 64), ("y", 128))]
model = helper.make_model(helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", info[:1], info[1:],
                                            [numpy_helper.from_array(w, "w")]), opset_imports=[helper.make_opsetid("", 21)])
quantizer = MatMulNBitsQuantizer(model, block_size=32, is_symmetric=True)
quantizer.process()
ort = next(numpy_helper.to_array(i) for i in quantizer.model.model.graph.initializer if "scale" in i.name)
share = float((ort < 0).mean())
check("share of negative scales, ONNX Runtime symmetric 4 bits", 0.0, share, 0.3 < share < 0.7)
PY
cd "$work"
venv/bin/python check.py
