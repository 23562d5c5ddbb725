#!/usr/bin/env bash
# onnx.save leaves the weights in the model file that were given to make_tensor as a list, whatever is asked for.
#
# Versions: onnx 1.23.2, numpy 2.4.6.
# A good guess: save_as_external_data=True with size_threshold=0 moves every initializer to the data file.
# Seen: only tensors with raw bytes go there. onnx.helper.make_tensor fills the list field of the type (float_data, int32_data) unless raw=True,
# and such a tensor stays inline, without a word: the model file keeps these weights, the data file has those of from_array only. So a data
# file need not hold a model's weights, and the size of the model file is no sign of it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile onnx==1.23.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

import numpy as np
import onnx
from onnx import helper, numpy_helper


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


numbers = np.arange(10_000, dtype=np.float32).reshape(100, 100)
half = np.full((100, 100), 1.5, np.float16)
tensors = [helper.make_tensor("listed", onnx.TensorProto.FLOAT, [100, 100], numbers.ravel()),
           helper.make_tensor("half", onnx.TensorProto.FLOAT16, [100, 100], half.ravel()),
           numpy_helper.from_array(numbers, "array")]
nodes = [helper.make_node("Identity", [t.name], [f"out_{t.name}"]) for t in tensors]
outputs = [helper.make_tensor_value_info(f"out_{t.name}", t.data_type, [100, 100]) for t in tensors]
model = helper.make_model(helper.make_graph(nodes, "graph", [], outputs, tensors))
onnx.save(model, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
read = onnx.load("model.onnx", load_external_data=False)
seen = [t.name for t in read.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
check("tensors in the data file", ["listed", "half", "array"], seen, seen == ["array"])
seen = [os.path.getsize("weights.bin"), os.path.getsize("model.onnx") > 60_000]
check("bytes of the data file, and whether the model file holds weights", [100_000, False], seen, seen == [40_000, True])
PY
cd "$work"
venv/bin/python check.py
