#!/usr/bin/env bash
# CTranslate2 stores equal arrays once, even if no layer shares them, and quantises the caller's array.
#
# Versions: ctranslate2 4.8.5, numpy 2.4.6.
# A good guess: only parameters that are one object become an alias, and the converter works on copies.
# Seen: two layers whose biases are both zero have one bias in the file, the second being an alias of the
# first; and after optimize("int8") the array that was handed in holds the codes before rounding.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile ctranslate2==4.8.5 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, model_spec


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


class Spec(model_spec.ModelSpec):
    name, revision = "Spec", 1

    def __init__(self):
        super().__init__()
        self.a, self.b = common_spec.LinearSpec(), common_spec.LinearSpec()


rng = np.random.default_rng(0)
weights = [rng.normal(size=(4, 8)).astype(np.float32) for _ in range(2)]
before = weights[0].copy()
spec = Spec()
for layer, w in zip((spec.a, spec.b), weights):
    layer.weight, layer.bias = w, np.zeros(4, np.float32)
spec.validate()
spec.optimize(quantization="int8")
stored = dict(spec.variables(ordered=True))
aliases = {k: v for k, v in stored.items() if isinstance(v, str)}
check("aliases in a model without shared layers", {}, aliases, aliases == {"b/bias": "a/bias"})
scale = stored["a/weight_scale"].numpy()[:, None]
codes = stored["a/weight"].numpy().astype(np.float32)
worst = float(np.abs(codes / scale - before).max())
check("int8: weight = code / scale", "code * scale", f"largest error of the quotient {worst:.4f}", worst < 0.05)
ratio = float(np.median(weights[0] / before))
check("the caller's array after optimize, over before", 1.0, round(ratio, 1), ratio > 10)
PY
cd "$work"
venv/bin/python check.py
