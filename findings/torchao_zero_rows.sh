#!/usr/bin/env bash
# torchao's float8 makes NaN of a row of zeros, and its 1-bit integers make zeros of everything.
#
# Versions: torchao 0.18.0, torch 2.13.0 (on the CPU), numpy 2.4.6.
# A good guess: zeros stay zeros in every type, as they do with Int8WeightOnlyConfig; int1 keeps signs.
# Seen: Float8WeightOnlyConfig gives a row of zeros the scale 0 and divides by it: a pruned or padded row of a layer comes back as NaN, and
# so does the layer's output there. In float16 a row of 1e-6 becomes 0. IntxWeightOnlyConfig with torch.int1 has the codes -1 and 0 and
# a scale of twice the largest number, so every weight is 0; int8 makes zeros of weights below 6e-8, since scales end at 1.2e-7.
# Nothing is said.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torchao==0.18.0 torch==2.13.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import torch
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig, quantize_


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def layer(weight, config):
    """A Linear of these weights after quantising."""
    model = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    model[0].weight.data = weight.clone()
    quantize_(model, config)
    return model


def dequantised(weight, config):
    return layer(weight, config)[0].weight.dequantize().float()


torch.manual_seed(0)
weight = torch.randn(8, 64)
weight[2] = 0
for dtype in (torch.float32, torch.bfloat16):
    model = layer(weight.to(dtype), Float8WeightOnlyConfig())
    seen = [float(model[0].weight.dequantize()[2, 0]), float(model(torch.ones(1, 64, dtype=dtype))[0, 2].detach())]
    check(f"a row of zeros by float8, {dtype}: weight and output", [0.0, 0.0], seen, seen[0] != seen[0] and seen[1] != seen[1])
seen = float(dequantised(weight, Int8WeightOnlyConfig())[2].abs().max())
check("the same by int8", 0.0, seen, seen == 0.0)
small = torch.full((1, 64), 1e-6, dtype=torch.float16)
seen = float(dequantised(small, Float8WeightOnlyConfig())[0, 0])
check("a float16 row of 1e-6 by float8", 1e-6, seen, seen == 0.0)
seen = float((dequantised(torch.randn(64, 64), IntxWeightOnlyConfig(weight_dtype=torch.int1)) == 0).float().mean())
check("share of zeros after int1", "0, or a half", seen, seen == 1.0)
seen = float((dequantised(1e-8 * torch.randn(64, 64), Int8WeightOnlyConfig()) == 0).float().mean())
check("share of zeros of weights near 1e-8 by int8", 0.0, seen, seen == 1.0)
PY
cd "$work"
venv/bin/python check.py
