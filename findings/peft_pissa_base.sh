#!/usr/bin/env bash
# Loading a PiSSA adapter with PEFT changes the base model, and unload() does not give it back.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0.
# A good guess: the base weights of a loaded adapter are the base's; with the adapter disabled or unloaded
# the model answers as the base does.
# Seen: the config says init_lora_weights = pissa, so loading does the SVD again and takes the leading part
# out of the base weight. Disabled, unloaded or saved, the model is that remainder. With pissa_niter_N the
# SVD is a random one, so the reloaded adapter sits on another remainder and answers differently.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 peft==0.21.2 transformers==5.23.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
from peft import LoraConfig, PeftModel, get_peft_model


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def base():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False))


def trained(init):
    start, fresh = base(), base()
    torch.manual_seed(1)
    model = get_peft_model(start, LoraConfig(target_modules=["0"], r=4, init_lora_weights=init))
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    folder = tempfile.mkdtemp(dir=".")
    model.save_pretrained(folder)
    torch.manual_seed(2)
    return model, PeftModel.from_pretrained(fresh, folder)


def apart(a, b):
    return round(float((a - b).norm() / b.norm()), 3)


w = base()[0].weight
x = torch.eye(32)
model, again = trained("pissa")
e = apart(again(x), model(x))
check("pissa: output after loading, against before saving", 0.0, e, e < 1e-3)
e = apart(again.base_model.model[0].base_layer.weight, w)
check("pissa: base weight after loading, against the base", 0.0, e, e > 0.2)
e = apart(again.unload()[0].weight, w)
check("pissa: weight after unload(), against the base", 0.0, e, e > 0.2)
model, again = trained("pissa_niter_2")
e = apart(again(x), model(x))
check("pissa_niter_2: output after loading, against before saving", 0.0, e, e > 0.02)
PY
cd "$work"
venv/bin/python check.py
