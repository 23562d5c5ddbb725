#!/usr/bin/env bash
# A model that transformers saves in shards over a single file is not the one that transformers loads: the older one is.
#
# Versions: transformers 5.23.0, huggingface_hub 2.4.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: save_pretrained into a folder that holds a model replaces it: shards of an earlier save are removed, as is well known.
# Seen: shards are removed when one file takes their place (though not their index), but model.safetensors stays when shards take its
# place, and from_pretrained takes model.safetensors first: the weights of the earlier save, without a word. huggingface_hub's
# load_torch_model goes by the index, and so loads the new model from the same folder; of the other order it finds the index without
# its shards and fails.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile transformers==5.23.0 huggingface_hub==2.4.0 torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
cat > "$work/check.py" <<'PY'
import os

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from huggingface_hub import load_torch_model
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


config = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)


def model(seed):
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def which(one):
    """Which of the two it is, by its embedding."""
    is_it = [torch.equal(one.model.embed_tokens.weight, model(seed).model.embed_tokens.weight) for seed in (1, 2)]
    return {(True, False): "first", (False, True): "second"}.get(tuple(is_it), "neither")


def by_hub(folder):
    one = model(3)
    try:
        load_torch_model(one, folder)
    except FileNotFoundError:
        return "FileNotFoundError"
    return which(one)


def listed(folder):
    return sorted({name.split("-")[0] for name in os.listdir(folder) if "config" not in name})


model(1).save_pretrained("a")
model(2).save_pretrained("a", max_shard_size="4KB")
seen = which(LlamaForCausalLM.from_pretrained("a"))
check("one file, then shards over it: transformers loads", "second", seen, seen == "first")
seen = by_hub("a")
check("huggingface_hub loads from the same folder", "second", seen, seen == "second")
model(1).save_pretrained("b", max_shard_size="4KB")
model(2).save_pretrained("b")
seen = listed("b")
check("shards, then one file over them: weights and index", ["model.safetensors"], seen, seen == ["model.safetensors", "model.safetensors.index.json"])
seen = [which(LlamaForCausalLM.from_pretrained("b")), by_hub("b")]
check("transformers and huggingface_hub load", ["second", "second"], seen, seen == ["second", "FileNotFoundError"])
PY
cd "$work"
venv/bin/python check.py
