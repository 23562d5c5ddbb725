#!/usr/bin/env bash
# onnx.save with external data appends to an old data file and empties the model in memory.
#
# Versions: onnx 1.23.2, numpy 2.4.6.
# A good guess: saving a model again to the same two files replaces both, and the model that was saved
# can still be used.
# Seen: the data file doubles (the old bytes stay, unused), so equal models have unequal data files;
# after the call the tensor's raw_data is gone and to_array without base_dir is an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


w = np.arange(1000, dtype=np.float32)
graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [],
                          [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1000])],
                          [numpy_helper.from_array(w, "w")])
model = helper.make_model(graph)


def save(m):
    os.makedirs("out", exist_ok=True)
    onnx.save(m, "out/m.onnx", save_as_external_data=True, location="m.data")
    return os.path.getsize("out/m.data")


first = save(model)
left = len(model.graph.initializer[0].raw_data)
check("bytes of the tensor in the model after onnx.save", 4000, left, left == 0)
try:
    seen = numpy_helper.to_array(model.graph.initializer[0])[:2].tolist()
except Exception as e:
    seen = type(e).__name__
check("to_array of it", [0.0, 1.0], seen, seen == "ValidationError")
second = save(onnx.load("out/m.onnx"))
check("size of the data file, saved once and twice", (4000, 4000), (first, second), (first, second) == (4000, 8000))
PY
cd "$work"
venv/bin/python check.py
