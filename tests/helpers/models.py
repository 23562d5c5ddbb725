"""Tiny models made on the spot, and what people do to models."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from modelkin_indexer.fingerprinting.indexing import fingerprint_source
from modelkin_indexer.opening import open_source
from modelkin_indexer.results.fingerprint import Fingerprint
from modelkin_indexer.spec import PUBLIC_KEY, Key

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]
LAYERS, HIDDEN, NEURONS, VOCABULARY, HEADS = 6, 96, 160, 1024, 6
READING = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
WRITING = ("o_proj.weight", "down_proj.weight")
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "intermediate_size": NEURONS,
    "vocab_size": VOCABULARY,
}


def llama(seed: int, layers: int = LAYERS) -> Tensors:
    """A Llama-shaped model: noise plus a learned-looking part that all layers share, and gains around one."""
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((HIDDEN, 4)).astype(np.float32)

    def matrix(rows: int, columns: int) -> Array:
        weights = 0.02 * rng.standard_normal((rows, columns))
        if columns == HIDDEN:
            weights += 0.01 * rng.standard_normal((rows, 4)) @ basis.T
        return weights.astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN),
        "lm_head.weight": matrix(VOCABULARY, HIDDEN),
        "model.norm.weight": _gain(rng),
    }
    for layer in range(layers):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = _gain(rng)
        tensors[at + "post_attention_layernorm.weight"] = _gain(rng)
        for name in ("q", "k", "v", "o"):
            tensors[f"{at}self_attn.{name}_proj.weight"] = matrix(HIDDEN, HIDDEN)
        tensors[at + "mlp.gate_proj.weight"] = matrix(NEURONS, HIDDEN)
        tensors[at + "mlp.up_proj.weight"] = matrix(NEURONS, HIDDEN)
        tensors[at + "mlp.down_proj.weight"] = matrix(HIDDEN, NEURONS)
    return tensors


def _gain(rng: np.random.Generator) -> Array:
    return (1 + 0.1 * rng.standard_normal(HIDDEN)).astype(np.float32)


def trained_on(tensors: Tensors, seed: int, size: float) -> Tensors:
    """Every tensor plus independent changes of `size` times its spread, uneven over tensors as training is."""
    rng = np.random.default_rng(seed)
    return {k: v + (size * rng.uniform(0.3, 1.7) * v.std() * rng.standard_normal(v.shape)).astype(np.float32) for k, v in tensors.items()}


def noised(tensors: Tensors, seed: int, size: float) -> Tensors:
    """Every tensor plus noise of one relative size."""
    rng = np.random.default_rng(seed)
    return {k: v + (size * v.std() * rng.standard_normal(v.shape)).astype(np.float32) for k, v in tensors.items()}


def with_layers(tensors: Tensors, chosen: list[int]) -> Tensors:
    """A model whose layer i is layer chosen[i] of the other."""
    out = {k: v for k, v in tensors.items() if ".layers." not in k}
    for new, old in enumerate(chosen):
        out |= {k.replace(f".layers.{old}.", f".layers.{new}."): v for k, v in tensors.items() if f".layers.{old}." in k}
    return out


def part_from(host: Tensors, donor: Tensors, part: str) -> Tensors:
    """The host with every tensor whose name contains `part` taken from the donor."""
    return {k: donor[k] if part in k else v for k, v in host.items()}


def neurons_permuted(tensors: Tensors, seed: int) -> Tensors:
    rng, out = np.random.default_rng(seed), dict(tensors)
    for layer in range(LAYERS):
        order, at = rng.permutation(NEURONS), f"model.layers.{layer}.mlp."
        for name in ("gate", "up"):
            out[f"{at}{name}_proj.weight"] = tensors[f"{at}{name}_proj.weight"][order]
        out[at + "down_proj.weight"] = tensors[at + "down_proj.weight"][:, order]
    return out


def channels_permuted(tensors: Tensors, seed: int) -> Tensors:
    """Hidden channels permuted through the whole model: the function stays the same."""
    order = np.random.default_rng(seed).permutation(HIDDEN)
    return {k: v[order] if v.ndim == 1 or k.endswith(WRITING) else v[:, order] for k, v in tensors.items()}


def gains_folded(tensors: Tensors) -> Tensors:
    """Gains multiplied into the matrices that read them, and set to one."""
    out = dict(tensors)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name in READING:
            block, norm = ("mlp.", "post_attention") if name.startswith(("gate", "up")) else ("self_attn.", "input")
            out[at + block + name] = tensors[at + block + name] * tensors[f"{at}{norm}_layernorm.weight"]
    out["lm_head.weight"] = tensors["lm_head.weight"] * tensors["model.norm.weight"]
    return {k: np.ones_like(v) if v.ndim == 1 else v for k, v in out.items()}


def initialised(seed: int) -> Tensors:
    """An untrained model: independent numbers, and gains at one."""
    rng = np.random.default_rng(seed)
    return {k: np.ones_like(v) if v.ndim == 1 else (v.std() * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in llama(seed).items()}


def write(folder: Path, tensors: Tensors, dtype: type = ml_dtypes.bfloat16, config: dict[str, object] | None = None) -> Path:
    """The model as a folder with config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file({k: np.ascontiguousarray(v.astype(dtype)) for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    return folder


def fingerprint(
    folder: Path, tensors: Tensors, *, level: str = "full", key: Key = PUBLIC_KEY, dtype: type = ml_dtypes.bfloat16
) -> Fingerprint:
    """The fingerprint of a model written there."""
    return fingerprint_source(open_source(write(folder, tensors, dtype)), level=level, key=key)


def scales_moved(tensors: Tensors, seed: int) -> Tensors:
    """Rows of up multiplied by numbers that columns of down take back, and of q and k likewise: the function stays the same."""
    rng, out = np.random.default_rng(seed), dict(tensors)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for first, second, size in (("mlp.up", "mlp.down", NEURONS), ("self_attn.q", "self_attn.k", HIDDEN)):
            factor = np.exp(rng.uniform(-1, 1, size)).astype(np.float32)
            out[f"{at}{first}_proj.weight"] = tensors[f"{at}{first}_proj.weight"] * factor[:, None]
            back = tensors[f"{at}{second}_proj.weight"]
            out[f"{at}{second}_proj.weight"] = back / (factor if second == "mlp.down" else factor[:, None])
    return out


def adapter_merged(tensors: Tensors, seed: int, rank: int = 4) -> Tensors:
    """A low-rank change of every projection inside the layers, a third as large as the weights."""
    rng, out = np.random.default_rng(seed), dict(tensors)
    for name in (name for name in sorted(tensors) if "_proj" in name):
        rows, columns = tensors[name].shape
        delta = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
        out[name] = (tensors[name] + 0.3 * rng.uniform(0.3, 1.0) * tensors[name].std() / delta.std() * delta).astype(np.float32)
    return out


def narrowed(tensors: Tensors, channels: int, neurons: int) -> Tensors:
    """The first channels and neurons of a model, after which it was trained on."""
    out = {}
    for name, value in tensors.items():
        if value.ndim == 1:
            out[name] = value[:channels]
        elif "down_proj" in name:
            out[name] = value[:channels, :neurons]
        elif "gate_proj" in name or "up_proj" in name:
            out[name] = value[:neurons, :channels]
        else:
            out[name] = value[:channels] if "o_proj" in name else value[:, :channels]
    return trained_on(out, 6, 0.1)
