#!/usr/bin/env bash
# mergekit's linear merge with the weights 1 and -1 writes infinities, and with 1 and -0.9 ten times the difference.
#
# Versions: mergekit 0.1.5, transformers 5.23.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: a linear merge is the sum of weight times model, so 1 and -1 give the difference of two models (a task vector).
# Seen: the sum is divided by the sum of the weights unless "normalize" is false. With 1 and -1 that is 0, and the model is written full of
# infinities and NaN without an error. One model with the weight 0.5 is itself. With normalize: false the difference is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 mergekit==0.1.5 transformers==5.23.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import logging
import os
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
logging.disable(logging.ERROR)
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


key = "model.layers.0.mlp.up_proj.weight"
for seed, name in enumerate(("first", "second")):
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(name)
first, second = (load_file(f"{name}/model.safetensors")[key] for name in ("first", "second"))


def merged(*weights, **parameters):
    models = [{"model": os.path.abspath(name), "parameters": {"weight": weight}} for name, weight in zip(("first", "second"), weights)]
    text = {"merge_method": "linear", "dtype": "float32", "models": models, "parameters": parameters}
    out = tempfile.mkdtemp(dir=".")
    run_merge(MergeConfiguration.model_validate(text), out, MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False))
    return load_file(out + "/model.safetensors")[key]


seen = bool(merged(1.0, -1.0).isfinite().any())
check("weights 1 and -1: some number is finite", True, seen, not seen)
seen = round(float((merged(1.0, -0.9) / (first - 0.9 * second)).median()), 3)
check("weights 1 and -0.9: times first - 0.9 second", 1.0, seen, seen == 10.0)
seen = torch.equal(merged(0.5), first)
check("one model of weight 0.5 is that model", False, seen, seen)
seen = torch.allclose(merged(1.0, -1.0, normalize=False), first - second)
check("weights 1 and -1 with normalize: false are the difference", True, seen, seen)
PY
cd "$work"
venv/bin/python check.py
