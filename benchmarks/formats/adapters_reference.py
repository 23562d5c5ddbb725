"""Holds the decoding of PEFT adapters against peft: adapters of each kind with random factors are saved by it and merged by it; what
modelkin makes of the saved files, alone and on the base, must be the same numbers.

    pip install peft transformers
    python -m benchmarks.formats.adapters_reference

Writes benchmarks/results/adapters_reference.json; exits 1 on a difference. Differences are relative to the largest number of the weights.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from benchmarks.common.results import write_result
from modelkin_indexer.adapters.source import AdapterSource, on_base
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

ALLOWED = 2e-6  # both add in float32, in another order
TINY = 1e-30  # biases of fresh models are zero
LINEAR = ["q_proj", "v_proj", "down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("llama", {"target_modules": LINEAR, "lora_alpha": 16}),
    "rank-stabilised": ("llama", {"target_modules": LINEAR, "lora_alpha": 16, "use_rslora": True}),
    "alpha and rank patterns": (
        "llama",
        {"target_modules": LINEAR, "alpha_pattern": {r"^model.layers.\d+.mlp.down_proj": 3}, "rank_pattern": {"v_proj": 2}},
    ),
    "DoRA": ("llama", {"target_modules": LINEAR, "use_dora": True}),
    "embedding and a whole head": ("llama", {"target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head"]}),
    "inputs first": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
}


def model(kind: str) -> Any:
    """A small model with random weights."""
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=48, n_layer=2, n_head=4, n_positions=32))
    sizes = {"vocab_size": 120, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False))


def outcome(name: str, folder: Path) -> dict[str, Any]:
    """One case: the largest difference of any weight of the sum, and of any change alone."""
    kind, options = CASES[name]
    model(kind).save_pretrained(folder / "base")
    adapted = get_peft_model(model(kind), LoraConfig(r=4, **options))
    torch.manual_seed(1)
    for key, parameter in adapted.named_parameters():
        if "lora_" in key or "modules_to_save" in key:
            parameter.data += 0.05 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "adapter")
    merged = {key: value.float().numpy() for key, value in adapted.merge_and_unload().state_dict().items()}
    with closing(open_source(folder / "base")) as base:
        before = {key: read(base, key) for key in base.tensors}
    with closing(open_source(folder / "adapter")) as alone:
        assert isinstance(alone, AdapterSource)
        changes = {key: read(alone, key) for key in alone.tensors}
    with closing(on_base(_adapter(folder), open_source(folder / "base"))) as summed:
        found = {key: read(summed, key) for key in summed.tensors}
    differences = {key: difference(found[key], merged[named(key, merged)]) for key in found}
    dora = options.get("use_dora", False)
    whole = {"embed_tokens", "lm_head"}  # these come whole in the adapter that changes them
    alone_differences = {
        key: difference(change if whole & set(key.split(".")) else before[key] + change, merged[named(key, merged)])
        for key, change in changes.items()
        if not dora
    }
    worst = max(differences.values()), max(alone_differences.values(), default=None)
    moved = sum(difference(before[key], found[key]) > 0.01 for key in before)
    passed = moved and found.keys() == before.keys() and worst[0] <= ALLOWED and (worst[1] or 0.0) <= ALLOWED
    return {"case": name, "sum": worst[0], "change_alone": worst[1], "changed": len(changes), "moved": moved, "passed": bool(passed)}


def _adapter(folder: Path) -> AdapterSource:
    source = open_source(folder / "adapter")
    assert isinstance(source, AdapterSource)
    return source


def named(key: str, merged: dict[str, Any]) -> str:
    """The name in the merged model's state: files may be saved without the head's or with the base's prefix."""
    return key if key in merged else f"transformer.{key}"


def difference(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), TINY))


def read(source: Source, name: str) -> Any:
    info = source.tensors[name]
    return values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def main() -> int:
    lines = []
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(outcome(name, Path(folder)))
        print(lines[-1])
    failed = sum(not line["passed"] for line in lines)
    write_result("adapters_reference", {"peft": version("peft"), "cases": lines, "failed": failed})
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
