#!/usr/bin/env bash
# Adapters of strangers share most of their bytes: VeRA, RandLoRA and SHiRA save the same random tables.
#
# Versions: peft 0.21.2, transformers 5.23.0, safetensors 0.8.0, torch 2.13.0.
# A good guess: VeRA and RandLoRA draw their frozen matrices from a seed, so the file need not hold them;
# SHiRA's random mask (random_seed None) differs from run to run.
# Seen: VeRA's tables are in the file by default, RandLoRA's are there once for the model and once more for
# each layer, and SHiRA's positions are the same in every run. Two adapters trained apart, from other seeds,
# are byte for byte equal in these tensors, so shared bytes say nothing of descent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 peft==0.21.2 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
from peft import RandLoraConfig, ShiraConfig, VeraConfig, get_peft_model
from safetensors.torch import load_file


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def adapter(config, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    model = get_peft_model(model, config)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p))
    folder = tempfile.mkdtemp(dir=".")
    model.save_pretrained(folder)
    return load_file(folder + "/adapter_model.safetensors")


for kind, options, guess, still in [
    (VeraConfig, {"r": 8}, "none", ["base_model.vera_A", "base_model.vera_B"]),
    (RandLoraConfig, {"r": 8}, "none",
     [f"base_model.{m}randlora_{t}" for m in ("", "model.0.", "model.1.") for t in "AB"]),
    (ShiraConfig, {"r": 2}, "none", ["base_model.model.0.shira_indices", "base_model.model.1.shira_indices"]),
]:
    one, two = (adapter(kind(target_modules=["0", "1"], **options), seed) for seed in (1, 2))
    same = sorted(k for k in one if torch.equal(one[k], two[k]))
    size = sum(v.nbytes for v in one.values())
    share = sum(one[k].nbytes for k in same) / size
    check(f"{kind.__name__}: tensors equal in two adapters of other seeds", guess, f"{same}, {share:.0%} of the bytes", same == sorted(still))
PY
cd "$work"
venv/bin/python check.py
