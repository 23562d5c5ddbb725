#!/usr/bin/env bash
# PEFT's add_weighted_adapter of kind "linear" is not linear in the adapters.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0.
# A good guess: with weights 1 and 1 the new adapter's B A is the sum of the two B A.
# Seen: the factors are added, not their products: (B1 + B2)(A1 + A2) with the square roots of the weights, so
# the cross terms B1 A2 and B2 A1 come in, as large as the sum itself. One adapter alone is scaled
# rightly; "cat" and "svd" give the true sum.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from peft import LoraConfig, get_peft_model


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(32, 32))
config = LoraConfig(target_modules=["0"], r=4, lora_alpha=4)
model = get_peft_model(model, config, adapter_name="x")
model.add_adapter("y", config)
layer = model.base_model.model[0]
with torch.no_grad():
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.normal_()
total = layer.get_delta_weight("x") + layer.get_delta_weight("y")
for kind, options, still in [("cat", {}, lambda e: e < 1e-5), ("svd", {"svd_rank": 8}, lambda e: e < 1e-5), ("linear", {}, lambda e: e > 0.5)]:
    model.add_weighted_adapter(["x", "y"], [1.0, 1.0], kind, combination_type=kind, **options)
    e = float((layer.get_delta_weight(kind) - total).norm() / total.norm())
    check(f"{kind}: relative distance from the sum of the two", 0.0, round(e, 3), still(e))
a = {n: layer.lora_A[n].weight for n in ("x", "y")}
b = {n: layer.lora_B[n].weight for n in ("x", "y")}
crossed = (b["x"] + b["y"]) @ (a["x"] + a["y"])
e = float((layer.get_delta_weight("linear") - crossed).norm() / crossed.norm())
check("linear: relative distance from (B1 + B2)(A1 + A2)", "large", round(e, 6), e < 1e-5)
PY
cd "$work"
venv/bin/python check.py
