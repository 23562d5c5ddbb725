#!/usr/bin/env bash
# A model whose head shares the table of tokens, while its config says untied, loses the head: it is random after loading.
#
# Versions: transformers 5.23.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: with tie_word_embeddings=False both tensors are written, or one is and loading restores the other from it.
# Seen: save_pretrained sees shared memory and leaves lm_head out, without a note in the file; from_pretrained goes by the config, reports the
# key as missing and fills it with new random numbers. With copied numbers, or with the config tied, all is well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-compile transformers==5.23.0 safetensors==0.8.0
cat > "$work/check.py" <<'PY'
import logging

logging.disable(logging.WARNING)
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


def loaded(tied, share):
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=tied))
    table = model.model.embed_tokens.weight
    model.lm_head.weight = table if share else torch.nn.Parameter(table.detach().clone())
    model.save_pretrained("saved")
    with safe_open("saved/model.safetensors", "pt") as file:
        written = "lm_head.weight" in file.keys(), file.metadata()
    return written, torch.equal(AutoModelForCausalLM.from_pretrained("saved").lm_head.weight, table)


written, seen = loaded(tied=False, share=True)
check("untied config, shared tensor: the loaded head is the saved one", True, seen, not seen)
check("the head is in the file, and the file's notes", "yes, or a note", written, written == (False, {"format": "pt"}))
for tied, share in [(False, False), (True, True)]:
    _, seen = loaded(tied, share)
    check(f"config tied: {tied}, tensor shared: {share}", True, seen, seen)
PY
cd "$work"
venv/bin/python check.py
