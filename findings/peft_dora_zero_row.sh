#!/usr/bin/env bash
# A DoRA that was never trained makes NaN of a row of zeros.
#
# Versions: peft 0.21.2, torch 2.13.0, numpy 2.4.6.
# A good guess: with B = 0 the adapted layer is the base layer, whatever its weights; plain LoRA is.
# Seen: the direction of each row is divided by its length, and the magnitude of a row of zeros is 0, so 0/0: the layer's output is NaN there from the
# first step on, and so is the whole row after merge_and_unload. Pruned units, padded heads and unused outputs are such rows.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile peft==0.21.2
cat > "$work/check.py" <<'PY'
import torch
from peft import LoraConfig, get_peft_model


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def adapted(dora):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False))
    model[0].weight.data[2] = 0.0
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["0"], use_dora=dora))
    answer = tuned(torch.ones(1, 8))[0].isnan().tolist()
    return answer, int(tuned.merge_and_unload()[0].weight.isnan().sum())


for dora, still in [(False, ([False] * 4, 0)), (True, ([False, False, True, False], 8))]:
    seen = adapted(dora)
    check(f"use_dora={dora}: which outputs are NaN, and how many merged weights", ([False] * 4, 0), seen, seen == still)
PY
cd "$work"
venv/bin/python check.py
