"""Holds the decoding of PEFT adapters against peft: adapters of each kind with random parameters are saved by it and merged by it; what
modelkin makes of the saved files on the base, and alone where that says something, must be the same numbers. An adapter of the same kind
on an unrelated base must be a stranger.

    pip install peft transformers
    python -m benchmarks.formats.adapters_reference [--only KIND]

Writes benchmarks/results/adapters_reference.json; exits 1 on a difference. Differences are relative to the largest number of the weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

import modelkin
from benchmarks.common.results import write_result
from modelkin_indexer.adapters.presented import AdapterSource
from modelkin_indexer.adapters.source import on_base
from modelkin_indexer.errors import SourceError
from modelkin_indexer.opening import open_source
from modelkin_indexer.source import Source
from modelkin_indexer.sources.stored import values

ALLOWED = 5e-6  # both compute in float32, in another order; in double precision where a spectrum is taken from the base
STRANGER = 100  # the seed of an adapter and base that have nothing to do with the others
STRANGERS = ("unrelated", "not comparable", "norms only")
TINY = 1e-30  # biases of fresh models are zero
LINEAR = ["q_proj", "v_proj", "down_proj"]
ALONE = ("LORA", "ADALORA", "LOHA", "LOKR", "VBLORA", "C3A", "GRALORA", "DELORA")  # whose change the adapter tells by itself
LORA = {"target_modules": LINEAR, "r": 4, "lora_alpha": 16}
# name -> model, config, what else: "hidden" (its change is told on the base alone).
BLOCKS = {"target_modules_bd_a": ["down_proj"], "target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2}
EXPERTS = {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "LoRA": ("llama", "LORA", LORA),
    "rank-stabilised": ("llama", "LORA", {**LORA, "use_rslora": True}),
    "alpha and rank patterns": (
        "llama",
        "LORA",
        {**LORA, "alpha_pattern": {r"^model.layers.\d+.mlp.down_proj": 3}, "rank_pattern": {"v_proj": 2}},
    ),
    "DoRA": ("llama", "LORA", {**LORA, "use_dora": True}),
    "embedding and a whole head": ("llama", "LORA", {"r": 4, "target_modules": ["embed_tokens", "q_proj"], "modules_to_save": ["lm_head"]}),
    "inputs first": ("gpt2", "LORA", {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "biases": ("biased", "LORA", {**LORA, "lora_bias": True}),
    "PiSSA": ("llama", "LORA", {**LORA, "init_lora_weights": "pissa"}),
    "OLoRA": ("llama", "LORA", {**LORA, "init_lora_weights": "olora"}),
    "KaSA": ("llama", "LORA", {**LORA, "kasa_config": {}}),
    "BD-LoRA": (
        "llama",
        "LORA",
        {**LORA, "use_bdlora": {"target_modules_bd_a": ["down_proj"], "target_modules_bd_b": ["q_proj", "v_proj"], "nblocks": 2}},
    ),
    "orthogonal start": ("llama", "LORA", {**LORA, "init_lora_weights": "orthogonal"}),
    "trained tokens beside": ("llama", "LORA", {**LORA, "trainable_token_indices": [3, 7, 99]}),
    "experts": (
        "mixtral",
        "LORA",
        {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    ),
    "experts, inputs first": ("gpt-oss", "LORA", EXPERTS),
    "AdaLoRA": ("llama", "ADALORA", {"target_modules": LINEAR, "total_step": 100, "lora_alpha": 16}),
    "LoHa": ("llama", "LOHA", {"target_modules": LINEAR, "r": 4, "alpha": 6}),
    "LoKr": ("llama", "LOKR", {"target_modules": LINEAR, "r": 2, "alpha": 6}),
    "LoKr, both cut": ("llama", "LOKR", {"target_modules": LINEAR, "r": 1, "alpha": 6, "decompose_both": True, "decompose_factor": 6}),
    "VB-LoRA": ("llama", "VBLORA", {"target_modules": LINEAR, "r": 4, "vector_length": 8, "num_vectors": 20}),
    "C3A": ("llama", "C3A", {"target_modules": LINEAR, "block_size": 8}),
    "GraLoRA": ("llama", "GRALORA", {"target_modules": LINEAR, "r": 4, "alpha": 8, "gralora_k": 2}),
    "GraLoRA, hybrid": ("llama", "GRALORA", {"target_modules": LINEAR, "r": 4, "alpha": 8, "gralora_k": 2, "hybrid_r": 2}),
    "DeLoRA": ("llama", "DELORA", {"target_modules": LINEAR, "r": 4}),
    "VeRA": ("llama", "VERA", {"target_modules": LINEAR, "r": 4}),
    "PVeRA": ("llama", "PVERA", {"target_modules": LINEAR, "r": 4}),
    "RandLoRA": ("llama", "RANDLORA", {"target_modules": LINEAR, "r": 4, "randlora_alpha": 6}),
    "OFT": ("llama", "OFT", {"target_modules": LINEAR, "oft_block_size": 8}),
    "OFT, exact": ("llama", "OFT", {"target_modules": LINEAR, "oft_block_size": 8, "use_cayley_neumann": False}),
    "OFT, shared": ("llama", "OFT", {"target_modules": LINEAR, "oft_block_size": 8, "block_share": True}),
    "BOFT": ("llama", "BOFT", {"target_modules": LINEAR, "boft_block_size": 4}),
    "BOFT, two steps": ("llama", "BOFT", {"target_modules": LINEAR, "boft_block_size": 4, "boft_n_butterfly_factor": 2}),
    "HRA": ("llama", "HRA", {"target_modules": LINEAR, "r": 4}),
    "HRA, orthogonal": ("llama", "HRA", {"target_modules": LINEAR, "r": 4, "apply_GS": True}),
    "RoAd 1": ("biased", "ROAD", {"target_modules": LINEAR, "variant": "road_1", "group_size": 8}),
    "RoAd 2": ("llama", "ROAD", {"target_modules": LINEAR, "variant": "road_2", "group_size": 8}),
    "RoAd 4": ("llama", "ROAD", {"target_modules": LINEAR, "variant": "road_4", "group_size": 8}),
    "IA3": ("biased", "IA3", {"target_modules": LINEAR, "feedforward_modules": ["down_proj"]}),
    "HiRA": ("llama", "HIRA", {"target_modules": LINEAR, "r": 4}),
    "SHiRA": ("llama", "SHIRA", {"target_modules": LINEAR, "r": 2}),
    "FourierFT": ("llama", "FOURIERFT", {"target_modules": LINEAR, "n_frequency": 50}),
    "WaveFT": ("llama", "WAVEFT", {"target_modules": LINEAR, "n_frequency": 50}),
    "MiSS": ("llama", "MISS", {"target_modules": LINEAR, "r": 8}),
    "MiSS, short last block": ("llama", "MISS", {"target_modules": LINEAR, "r": 7}),
    "MiSS, mini": ("llama", "MISS", {"target_modules": LINEAR, "r": 8, "init_weights": "mini", "mini_r": 8}),
    "MiSS, bat": ("llama", "MISS", {"target_modules": LINEAR, "r": 8, "init_weights": "bat"}),
    "trainable tokens": ("llama", "TRAINABLE_TOKENS", {"token_indices": [1, 5, 60]}),
}


def model(kind: str, seed: int = 0) -> Any:
    """A small model with random weights."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=48, n_layer=2, n_head=4, n_positions=32))
    sizes = {"vocab_size": 120, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "gpt-oss":
        return GptOssForCausalLM(GptOssConfig(**sizes, num_local_experts=3, num_key_value_heads=2, head_dim=12))
    if kind == "mixtral":
        return MixtralForCausalLM(MixtralConfig(**sizes, num_local_experts=3, num_key_value_heads=2))
    made = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=False, attention_bias=kind == "biased", mlp_bias=kind == "biased"))
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):
            parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def outcome(name: str, folder: Path) -> dict[str, Any]:
    """One case: the largest difference of any weight of the sum, and of any change alone."""
    kind, form, options = CASES[name]
    config = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[getattr(peft.PeftType, form)](**options)
    (folder / "base").mkdir()
    state = {key: value.contiguous().clone() for key, value in model(kind).state_dict().items()}
    save_file(state, folder / "base" / "model.safetensors")
    adapted = trained(kind, config, 0)
    adapted.save_pretrained(folder / "adapter")
    trained(kind, peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[getattr(peft.PeftType, form)](**options), STRANGER).save_pretrained(
        folder / "other"
    )
    merged = {key: value.float().numpy() for key, value in adapted.merge_and_unload().state_dict().items()}
    line: dict[str, Any] = {"case": name, "kind": form}
    try:
        line |= held_against(merged, folder, form, options)
        line["stranger"] = modelkin.compare(folder / "adapter", folder / "other", level="full").relation
        return line | {"passed": line["passed"] and line["stranger"] in STRANGERS}
    except (SourceError, KeyError) as error:
        return line | {"error": f"{type(error).__name__}: {error}", "passed": False}


def trained(kind: str, config: Any, seed: int) -> Any:
    """An adapter whose parameters were moved, on the base of a seed."""
    adapted = peft.get_peft_model(model(kind, seed), config)
    torch.manual_seed(seed + 1)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return adapted


def held_against(merged: Mapping[str, Any], folder: Path, form: str, options: Mapping[str, Any]) -> dict[str, Any]:
    with closing(open_source(folder / "base")) as base:
        before = {key: read(base, key) for key in base.tensors}
    with closing(_adapter(folder)) as alone:
        changes = {key: read(alone, key) for key in alone.tensors}
        said, unread = alone.adapter["kind"], alone.unread
        as_stored = all(_is_stored_vector(alone, key) for key in changes)
    with closing(on_base(_adapter(folder), open_source(folder / "base"))) as summed:
        found = {key: read(summed, key) for key in summed.tensors}
    differences = {key: difference(found[key], merged[named(key, merged)]) for key in found}
    from_base = str(options.get("init_lora_weights", "")) in ("pissa", "olora")
    tells = form in ALONE and not options.get("use_dora") and not options.get("kasa_config") is not None
    whole = {"embed_tokens", "lm_head"}  # these come whole in the adapter that changes them
    alone_differences = [
        difference(change if whole & set(key.split(".")) else before[key] + turned(change, before[key]), merged[named(key, merged)])
        for key, change in changes.items()
        if tells
    ]
    moved = sum(difference(before[key], found[key]) > 1e-4 for key in before)
    hidden = form not in ALONE or from_base
    worst = max(differences.values()), max(alone_differences, default=None)
    passed = moved and found.keys() == before.keys() and worst[0] <= ALLOWED and (worst[1] or 0.0) <= ALLOWED
    passed = bool(passed and (bool(unread) and as_stored if hidden else bool(changes)))
    return {"said": said, "sum": worst[0], "change_alone": worst[1], "shown_alone": len(changes), "moved": moved, "passed": passed}


def _is_stored_vector(alone: AdapterSource, key: str) -> bool:
    """Whether a shown tensor is no change, but a vector of the file: it tells the adapter again, and nothing of the base."""
    if key not in alone.stored.tensors:
        return False
    shown = read(alone, key)
    return shown.size == max(shown.shape) and np.array_equal(shown, read(alone.stored, key))


def _adapter(folder: Path) -> AdapterSource:
    source = open_source(folder / "adapter")
    assert isinstance(source, AdapterSource)
    return source


def named(key: str, merged: Mapping[str, Any]) -> str:
    """The name in the merged model's state: files may be saved without the head's or with the base's prefix."""
    return key if key in merged else f"transformer.{key}"


def turned(change: Any, base: Any) -> Any:
    """A change of experts is shown [out, in], however the base stores them."""
    return change if change.shape == base.shape else change.swapaxes(-1, -2)


def difference(found: Any, wanted: Any) -> float:
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), TINY))


def read(source: Source, name: str) -> Any:
    info = source.tensors[name]
    return values.decode(info.dtype, source.read(name, 0, info.nbytes)).reshape(info.shape)


def main() -> int:
    """Measure, write the results, exit 1 on a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name has this in it; nothing is written then")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = []
    for name in CASES:
        if options.only.lower() not in name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            lines.append(outcome(name, Path(folder)))
        print("ok  " if lines[-1]["passed"] else "BAD ", lines[-1], flush=True)
    failed = sum(not line["passed"] for line in lines)
    if not options.only:
        write_result("adapters_reference", {"peft": version("peft"), "cases": lines, "failed": failed})
    print(f"{len(lines)} cases, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
