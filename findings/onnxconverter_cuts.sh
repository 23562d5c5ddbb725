#!/usr/bin/env bash
# onnxconverter-common's float16 conversion turns a weight of 20000 into 10000 and 1e-30 into 1e-7.
#
# Versions: onnxconverter-common 1.16.0, onnx 1.23.2, numpy 2.4.6.
# A good guess: what float16 holds (up to 65504) is kept, and what is too small for it becomes 0.
# Seen: by default numbers beyond 10000 are cut to 10000, and those nearer to 0 than 1e-7 are moved away from it, to 1e-7
# with their sign: weights that were next to nothing become a million times as large and more. It warns of both. Zeros stay.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnxconverter-common==1.16.0 onnx==1.23.2 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxconverter_common import float16


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


w = np.array([1e-30, -1e-12, 0.0, 1.0, 20000.0, -60000.0], np.float32)
ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [len(w)]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    converted = float16.convert_float_to_float16(helper.make_model(graph))
seen = numpy_helper.to_array(converted.graph.initializer[0])
want = np.array([1e-7, -1e-7, 0, 1, 10000, -10000], np.float16)
check("1e-30, -1e-12, 0, 1, 20000, -60000", w.astype(np.float16).tolist(), seen.tolist(), bool((seen == want).all()))
check("warnings", "some", len(told), len(told) > 0)
PY
cd "$work"
venv/bin/python check.py
