#!/usr/bin/env bash
# coremltools' float16 conversion makes 6e-8 of a weight of 1e-30, and keeps a whole layer in float32 for one weight of 70000.
#
# Versions: coremltools 9.0, numpy 2.4.6 (converted on Linux, without running the model).
# A good guess: numbers that are too small for float16 become 0, and those that are too large become infinite or the largest one.
# Seen: every weight but 0 becomes at least the smallest float16 number, with its sign, so what was next to nothing is larger by
# twenty orders. A layer with a weight above 65504 stays float32, all of it, while the layers around it are float16. Zeros stay zeros.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile coremltools==9.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging

logging.disable(logging.WARNING)
import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def converted(first):
    weight = np.ones((4, 16), np.float32)
    weight[0, 0] = first

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 16))])
    def program(x):
        return Builder.linear(x=Builder.linear(x=x, weight=np.eye(16, dtype=np.float32) * 0.5), weight=weight)

    model = ct.convert(program, minimum_deployment_target=ct.target.iOS16)
    found = [one.weight.val for one in model._mil_program.functions["main"].operations if one.op_type == "linear"]
    return [array.dtype.name for array in found], float(found[1][0, 0])


for value in (1e-30, -1e-30, 1e-10, 0.0):
    kinds, seen = converted(value)
    still = np.sign(value) * 2.0**-24
    check(f"a weight of {value}", 0.0, seen, kinds == ["float16", "float16"] and seen == still)
kinds, seen = converted(70000.0)
check("a weight of 70000: types of its layer and the one before", ["float16", "float16"], kinds[::-1], kinds == ["float16", "float32"] and seen == 70000)
PY
cd "$work"
venv/bin/python check.py
