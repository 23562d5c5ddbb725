#!/usr/bin/env bash
# mergekit's ties with one model of weight 0.3 gives that model whole; dare_ties gives 0.3 of its change.
#
# Versions: mergekit 0.1.5, transformers 5.23.0, torch 2.13.0.
# A good guess: base + 0.3 * (model - base) from all task-vector methods, when density is 1 and nothing is
# trimmed.
# Seen: ties, della and sce divide by the sum of the weights, dare_ties, breadcrumbs_ties and
# task_arithmetic do not. So a weight in a config tells how much of a model is in a merge only with the
# method's default for "normalize".
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
import yaml
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


config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                     num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False)
torch.manual_seed(0)
model = LlamaForCausalLM(config)
model.save_pretrained("base")
with torch.no_grad():
    for p in model.parameters():
        p.add_(0.01 * torch.randn_like(p))
model.save_pretrained("tuned")
key = "model.layers.0.mlp.up_proj.weight"
base, tuned = (load_file(f"{n}/model.safetensors")[key].float() for n in ("base", "tuned"))


def part(method):
    out = tempfile.mkdtemp(dir=".")
    text = {"merge_method": method, "base_model": os.path.abspath("base"), "dtype": "float32",
            "models": [{"model": os.path.abspath("tuned"), "parameters": {"weight": 0.3, "density": 1.0}}]}
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(yaml.safe_dump(text))), out, MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False))
    d = load_file(out + "/model.safetensors")[key] - base
    return float((d * (tuned - base)).sum() / ((tuned - base) ** 2).sum())


for method, still in [("task_arithmetic", 0.3), ("dare_ties", 0.3), ("breadcrumbs_ties", 0.3), ("ties", 1.0), ("della", 1.0), ("sce", 1.0)]:
    seen = part(method)
    check(f"{method}: share of the model's change at weight 0.3", 0.3, round(seen, 3), abs(seen - still) < 0.02)
PY
cd "$work"
venv/bin/python check.py
