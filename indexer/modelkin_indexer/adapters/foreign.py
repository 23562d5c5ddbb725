"""Adapters without peft's config: kohya's and LyCORIS' files, diffusers' LoRA files old and new, each under names of its own.

    lora_unet_down_blocks_0_attentions_0_..._attn1_to_q.lora_down.weight     kohya: the module with `_` for dots; `.alpha`
    lycoris_..., lora_te1_...  .hada_w1_a, .lokr_w2, .diff, .w_norm           LyCORIS
    unet.down_blocks.0.....to_q.lora_A.weight, unet....processor.to_q_lora.down.weight   diffusers

Modules come out under diffusers' and transformers' names, parts (`unet/`, `text_encoder_2/`) before them as in a pipeline's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from modelkin_indexer.adapters.names import Module

SEPARATOR = "/"  # between a part's name and a tensor's, as in composite sources
# What stands before a module's name, the longest first, and the part that it means; the denoiser is called after its layout.
DENOISER = "{denoiser}"
PARTS = {
    "lora_unet_": DENOISER,
    "lora_transformer_": DENOISER,
    "lora_prior_unet_": "prior",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_te_": "text_encoder",
    "lycoris_": "",
    "model.diffusion_model.": DENOISER,
    "diffusion_model.": DENOISER,
    "unet.": DENOISER,
    "transformer.": DENOISER,
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
}
UNDERSCORED = ("lora_unet_", "lora_transformer_", "lora_prior_unet_", "lora_te", "lycoris_")
DOWN_AND_UP = re.compile(r"(?:down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block|conv_(?:norm_)?(?:in|out)|time_emb)")
# Endings of a tensor's name, and what peft calls the parameter; `diff` is a whole change.
ENDINGS = re.compile(
    r"(?:\.|_)(?:(?P<down>lora_down(?:\.weight)?|lora\.down\.weight|lora_linear_layer\.down\.weight|lora_A(?:\.default)?\.weight)"
    r"|(?P<up>lora_up(?:\.weight)?|lora\.up\.weight|lora_linear_layer\.up\.weight|lora_B(?:\.default)?\.weight)"
    r"|(?P<bias>lora_B(?:\.default)?\.bias|lora_up\.bias)"
    r"|(?P<own>lora_mid(?=\.weight)|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?|dora_scale|lora_magnitude_vector|alpha|diff_b|diff"
    r"|w_norm|b_norm)(?:\.weight)?)$"
)
PROCESSOR = re.compile(r"\.processor\.(to_\w+?)$")
# Words of module names that hold `_` themselves; all others are parts of their own.
WORDS = frozenset({
    "adaLN_modulation", "add_k_proj", "add_q_proj", "add_v_proj", "attn_norm", "caption_projection", "clip_projection", "context_block",
    "context_embedder", "context_refiner", "conv_in", "conv_norm_out", "conv_out", "conv_shortcut", "cross_attention", "cross_attn",
    "double_blocks", "down_blocks", "down_proj", "down_sample", "emb_layers", "feed_forward", "ff_context", "final_layer", "gate_proj",
    "guidance_in", "img_attn", "img_in", "img_mlp", "img_mod", "in_layers", "in_proj", "input_blocks", "joint_blocks",
    "joint_transformer_blocks", "k_norm", "k_proj", "key_norm", "layer_norm", "layer_norm1", "layer_norm2", "linear_1", "linear_2",
    "mid_block", "middle_block", "nin_shortcut", "noise_refiner", "norm1_context", "norm_added_k", "norm_added_q", "norm_k", "norm_out",
    "norm_q", "o_proj", "out_layers", "out_proj", "output_blocks", "patch_embed", "patch_embedding", "pos_embed", "position_embedding",
    "pre_only", "proj_in", "proj_mlp", "proj_out", "q_norm", "q_proj", "query_norm", "resnet_blocks", "self_attention", "self_attn",
    "single_blocks", "single_transformer_blocks", "skip_connection", "text_embedding", "text_model", "text_projection", "time_emb_proj",
    "time_embed", "time_embedding", "time_in", "time_projection", "time_text_embed", "timestep_embedder", "to_add_out", "to_k",
    "to_k_ip", "to_kv", "to_out", "to_q", "to_qkv", "to_v", "to_v_ip", "token_embedding", "transformer_blocks", "txt_attn", "txt_in",
    "txt_mlp", "txt_mod", "up_blocks", "up_proj", "v_proj", "vector_in", "x_block", "x_embedder", "y_embedder",
})  # fmt: skip
LONGEST = max(word.count("_") for word in WORDS) + 1
PEFT = {"down": "lora_A", "up": "lora_B", "bias": "lora_B.bias"}


class Foreign(Struct, frozen=True):
    """An adapter's modules by their names in the file, and the tensors that no ending explains."""

    modules: dict[str, Module]
    unknown: tuple[str, ...]


def foreign_names(names: Iterable[str]) -> Foreign | None:
    """The modules of an adapter without config; None if this is none, or one whose names are peft's own."""
    modules: dict[str, Module] = {}
    unknown, marked = [], False
    for name in names:
        found = ENDINGS.search(name)
        stem = name[: found.start()] if found is not None else name
        marked = marked or _prefix(stem) != "" or (found is not None and found["own"] == "alpha")
        if found is None:
            unknown.append(name)
            continue
        kind = str(found.lastgroup)
        module = modules.setdefault(stem, Module(base_name(stem)))
        module.parameters[PEFT.get(kind) or str(found[kind])] = name
    is_adapter = marked and any(len(module.parameters) > ("alpha" in module.parameters) for module in modules.values())
    if not is_adapter or (unknown and any(not name.startswith(UNDERSCORED) for name in unknown)):
        return None
    return Foreign(modules, tuple(unknown))


def _prefix(stem: str) -> str:
    return max((prefix for prefix in PARTS if stem.startswith(prefix)), key=len, default="")


def base_name(stem: str) -> str:
    """What the base calls a module: `part/module` where the name tells a part."""
    prefix = _prefix(stem)
    plain = stem[len(prefix) :]
    part = PARTS.get(prefix, "")
    module = dotted(plain) if prefix.startswith(UNDERSCORED) else PROCESSOR.sub(r".\1", plain)
    if module.endswith("to_out"):  # diffusers' processors: a list of a layer and a dropout
        module += ".0"
    if part == DENOISER:
        part = "unet" if DOWN_AND_UP.match(module) else "transformer"
    return f"{part}{SEPARATOR}{module}" if part else module


def dotted(name: str) -> str:
    """A module's name whose dots were replaced by `_`: the longest known words are kept whole."""
    words = name.split("_")
    found = []
    at = 0
    while at < len(words):
        sizes = range(min(LONGEST, len(words) - at), 1, -1)
        size = next((size for size in sizes if "_".join(words[at : at + size]) in WORDS), 1)
        found.append("_".join(words[at : at + size]))
        at += size
    return ".".join(found)
