"""Tiny models of random weights, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

HIDDEN, WIDE, TOKENS = 48, 96, 200
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = {"gate_proj": (WIDE, HIDDEN), "up_proj": (WIDE, HIDDEN), "down_proj": (HIDDEN, WIDE)}
Tensors = dict[str, Any]


def tiny_llama(seed: int, layers: int = 3) -> Tensors:
    """The tensors of a decoder with trained-looking norm gains: near 1, and different between seeds."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "lm_head.weight": (TOKENS, HIDDEN)}
    gains = ["model.norm.weight"]
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}.weight": (HIDDEN, HIDDEN) for name in ATTENTION}
        shapes |= {f"{at}.mlp.{name}.weight": shape for name, shape in MLP.items()}
        gains += [f"{at}.input_layernorm.weight", f"{at}.post_attention_layernorm.weight"]
    tensors = {name: (random.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}
    return tensors | {name: (1 + 0.05 * random.standard_normal(HIDDEN)).astype(np.float32) for name in gains}


def tuned(tensors: Tensors, seed: int, strength: float = 0.1) -> Tensors:
    """The same with a change of its own relative size in each tensor, as further training makes."""
    random = np.random.default_rng(seed)
    changed = {}
    for name, value in sorted(tensors.items()):
        size = strength * random.uniform(0.3, 1.0) * value.std()
        changed[name] = (value + size * random.standard_normal(value.shape)).astype(np.float32)
    return changed


def with_norms_of(tensors: Tensors, donor: Tensors) -> Tensors:
    """The same matrices with another model's norm gains."""
    return {name: donor[name] if "norm" in name else value for name, value in tensors.items()}


def save_model(folder: Path, tensors: Tensors) -> Path:
    """A folder with these weights and a config."""
    folder.mkdir(parents=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return folder
