#!/usr/bin/env bash
# transformers saves a mixture of experts under other names and in other tensors than the model has: 21 become 41.
#
# Versions: transformers 5.23.0, torch 2.13.0, safetensors 0.8.0, numpy 2.4.6.
# A good guess: the file has the keys and shapes of model.state_dict(), so load_state_dict takes it.
# Seen: in memory the experts of a layer are two tensors of three dimensions, in the file three matrices an expert, as older
# releases had them, in Mixtral under another module's name too. load_state_dict of the saved file misses every expert and router. torch.save of the state
# dict and save_pretrained of one model agree in neither names nor count nor shapes.
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
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM


def check(what, guess, seen, still):
    print(what)
    print("  a good guess:", guess)
    print("  seen:        ", seen)
    if not still:
        raise SystemExit("the behaviour has changed")


sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
kinds = {
    "Mixtral": MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=4)),
    "Qwen3-MoE": Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, num_experts=4, moe_intermediate_size=16, head_dim=8)),
}
for name, model in kinds.items():
    model.save_pretrained(name)
    held, saved = model.state_dict(), load_file(f"{name}/model.safetensors")
    seen = [len(held), len(saved)]
    check(f"{name}: tensors of the model and of its file", [len(held)] * 2, seen, len(saved) == len(held) + 20)
    seen = sorted(tuple(tensor.shape) for key, tensor in held.items() if "layers.0" in key and "experts" in key)
    check(f"{name}: shapes of a layer's experts in the model", "twelve matrices", seen, len(seen) == 2 and all(len(shape) == 3 for shape in seen))
saved = load_file("Mixtral/model.safetensors")
seen = sorted({key.split(".")[3] for key in saved if "expert" in key}), sorted({key.split(".")[3] for key in kinds["Mixtral"].state_dict() if "expert" in key})
check("Mixtral: the module that holds the experts, in the file and in the model", "one name", seen, seen == (["block_sparse_moe"], ["mlp"]))
answer = kinds["Mixtral"].load_state_dict(saved, strict=False)
seen = sorted({key.split(".", 4)[4] for key in answer.missing_keys if "layers.0" in key})
check("Mixtral: missing of layer 0 in load_state_dict of its own file", [], seen, seen == ["experts.down_proj", "experts.gate_up_proj", "gate.weight"])
PY
cd "$work"
venv/bin/python check.py
