#!/usr/bin/env bash
# PEFT's trainable_tokens_delta holds no differences but the rows themselves.
#
# Versions: peft 0.21.2, transformers 5.23.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: a tensor of that name is added to the table's rows, and is 0 before training, as lora_B is.
# Seen: it begins as a copy of the rows and takes their place. So an adapter that was never trained holds numbers of its base, two adapters
# of one base share them, and a loader that adds them doubles the rows. On another base the rows are those of the first.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile transformers==5.23.0 peft==0.21.2 safetensors==0.8.0
cat > "$work/check.py" <<'PY'
import logging
import warnings

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def base(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4))


model = base(0)
rows = model.model.embed_tokens.weight[[3, 5]].detach().clone()
get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 5])).save_pretrained("adapter")
saved = next(tensor for name, tensor in load_file("adapter/adapter_model.safetensors").items() if name.endswith("trainable_tokens_delta"))
check("the largest number in an untrained trainable_tokens_delta", 0.0, round(float(saved.abs().max()), 3), bool(saved.abs().max() > 0))
check("it is equal to the base's rows", False, torch.equal(saved, rows), torch.equal(saved, rows))
other = base(1)
before = other.model.embed_tokens.weight[[3, 5]].detach().clone()
merged = PeftModel.from_pretrained(other, "adapter").merge_and_unload().model.embed_tokens.weight[[3, 5]]
seen = [torch.equal(merged, before), torch.equal(merged, rows)]
check("on another base: the rows are that base's, the first base's", [True, False], seen, seen == [False, True])
PY
cd "$work"
venv/bin/python check.py
