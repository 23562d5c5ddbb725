#!/usr/bin/env bash
# The alpha in a LyCORIS file need not be the alpha that was asked for.
#
# Versions: lycoris-lora 4.1.3, torch 2.13.0.
# A good guess: "alpha" is the configured alpha and the factor is alpha / rank in each kind of layer.
# Seen: with rs_lora alpha * sqrt(rank) is stored, so that alpha / rank is right; a LoKr whose two factors are
# whole stores lora_dim as alpha, whatever was asked; in diag-OFT and BOFT the key holds the constraint,
# 0 if there is none; and a trained scalar is no key of its own but is multiplied into lora_up.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 lycoris-lora==4.1.3 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
import torch
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.lokr import LokrModule


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


linear = torch.nn.Linear(32, 48, bias=False)
for kind, options, still in [
    (LoConModule, {"lora_dim": 4}, 2.0),
    (LoConModule, {"lora_dim": 4, "rs_lora": True}, 4.0),
    (LokrModule, {"lora_dim": 10000, "factor": 4}, 10000.0),
    (DiagOFTModule, {"lora_dim": 8}, 0.0),
    (ButterflyOFTModule, {"lora_dim": 8}, 0.0),
    (DiagOFTModule, {"lora_dim": 8, "constraint": 0.5}, 0.5),
]:
    alpha = float(kind("layer", linear, multiplier=1.0, alpha=2, **options).state_dict()["alpha"])
    check(f"{kind.__name__} with alpha 2, {options}: alpha in the file", 2.0, alpha, alpha == still)
layer = LoConModule("layer", linear, multiplier=1.0, lora_dim=4, alpha=2, use_scalar=True)
with torch.no_grad():
    layer.lora_up.weight.normal_()
    layer.scalar.fill_(0.5)
state = layer.state_dict()
ratio = float((state["lora_up.weight"] / layer.lora_up.weight).mean().detach())
check("use_scalar, scalar 0.5: keys, and stored lora_up over the layer's", "a key scalar, 1.0", (sorted(state), round(ratio, 3)),
      not any("scalar" in k for k in state) and abs(ratio - 0.5) < 1e-4)
PY
cd "$work"
venv/bin/python check.py
