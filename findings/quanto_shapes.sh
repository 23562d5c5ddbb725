#!/usr/bin/env bash
# Linear layers of 256 x 256 and of 512 x 128 are one and the same file to quanto, and each loads the other's.
#
# Versions: optimum-quanto 0.2.7, torch 2.13.0.
# A good guess: a layer's file tells its shape, or does not load into a layer of another shape, as torch's own
# state dicts do not.
# Seen: rows of more than 128 numbers are cut into groups of 128 before they are packed to 4 bits, rows of 128
# are not, and the groups are all that is stored. The state dicts of both layers, of the same numbers in a
# row, are equal tensor for tensor; the one of 256 x 256 loads into a layer of 512 x 128 without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile optimum-quanto==0.2.7
cat > "$work/check.py" <<'PY'
import torch
from optimum.quanto import freeze, qint4, quantize, requantize


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def layer(rows, columns):
    return torch.nn.Sequential(torch.nn.Linear(columns, rows, bias=False))


def packed(rows, columns):
    model = layer(rows, columns)
    numbers = torch.randn(256 * 256, generator=torch.Generator().manual_seed(0))
    model[0].weight.data = numbers.reshape(rows, columns)
    quantize(model, weights=qint4)
    freeze(model)
    return model


square, tall = packed(256, 256).state_dict(), packed(512, 128).state_dict()
same = square.keys() == tall.keys() and all(torch.equal(square[name], tall[name]) for name in square)
check("the state dicts of 256 x 256 and of 512 x 128", "differ in a shape", f"equal: {same}", same)
other = layer(512, 128)
requantize(other, square, {"0": {"weights": "qint4", "activations": "none"}})
shape = tuple(other[0].weight.dequantize().shape)
check("a layer of 512 x 128 loads the one of 256 x 256", "an error", f"loaded, {shape}", shape == (512, 128))
plain = layer(512, 128)
try:
    plain.load_state_dict(layer(256, 256).state_dict())
    seen = "loaded"
except RuntimeError:
    seen = "RuntimeError: size mismatch"
check("the same without quanto", "an error", seen, seen != "loaded")
PY
"$work/venv/bin/python" "$work/check.py"
