#!/usr/bin/env bash
# transformers' two BitNet layers read the same weight_scale as opposites.
#
# Versions: transformers 5.23.0, torch 2.13.0, on the CPU.
# A good guess: weight = ternary code * weight_scale in every BitNet layer; the tensor has one name.
# Seen: BitLinear divides by weight_scale, AutoBitLinear multiplies by it. Which one a checkpoint means
# is told only by linear_class in its config. The packed codes put rows i, i + N/4, i + N/2, i + 3N/4
# in a byte, not four neighbours.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os
import warnings

os.environ["TORCHDYNAMO_DISABLE"] = "1"
warnings.simplefilter("ignore")
import torch
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


torch.manual_seed(0)
code = (torch.randint(0, 3, (8, 16)) - 1).float()
x = torch.randn(4, 16)
packed = BitLinear(16, 8, bias=False, dtype=torch.float32)
packed.weight.copy_(pack_weights(code.clone()))
plain = AutoBitLinear(16, 8, bias=False, dtype=torch.float32)
plain.weight.data.copy_(code)
for layer, guess, still in [(packed, 4.0, 0.25), (plain, 4.0, 4.0)]:
    layer.weight_scale.fill_(4.0)
    want = x @ code.T
    ratio = float((layer(x).detach() * want).sum() / (want * want).sum())
    check(f"{type(layer).__name__}: output over that of the bare codes, weight_scale 4", guess, round(ratio, 2),
          abs(ratio - still) < 0.02 * still)
one = torch.zeros(8, 1)
one[2] = 1.0
bytes_ = [f"{int(b):08b}" for b in pack_weights(one).flatten()]
check("bytes of a column of eight codes, a 1 in row 2 (stored as code + 1)", ["01100101", "01010101"], bytes_,
      bytes_ == ["01011001", "01010101"])
PY
cd "$work"
venv/bin/python check.py
