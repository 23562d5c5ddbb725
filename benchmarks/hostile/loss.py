"""What a changed copy of a Llama loses: its cross-entropy on texts that the original writes, against the original's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.hostile.transforms import Net

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TEXTS, LENGTH = 32, 48  # texts, and tokens of each
BEGIN = 1  # number of the token that begins a text


def texts(net: Net, seed: int) -> Ints:
    """Texts (TEXTS, LENGTH) drawn from a model, token by token."""
    random, found = np.random.default_rng(seed), np.full((TEXTS, 1), BEGIN, np.int64)
    while found.shape[1] < LENGTH:
        shares = np.cumsum(np.exp(log_shares(net, found)[:, -1]), axis=1)
        drawn = (random.random((TEXTS, 1)) * shares[:, -1:] > shares).sum(axis=1, keepdims=True)
        found = np.hstack([found, drawn])
    return found


def loss(net: Net, tokens: Ints) -> float:
    """Mean cross-entropy of the texts' tokens, in nats."""
    shares = log_shares(net, tokens[:, :-1])
    return float(-np.take_along_axis(shares, tokens[:, 1:, None], axis=2).mean())


def log_shares(net: Net, tokens: Ints) -> Floats:
    """Log-probabilities (texts, positions, vocabulary) of the next token, by the equations of `transformers`' Llama."""
    tensors: dict[str, Any] = {name: values.astype(np.float64) for name, values in net.tensors.items()}
    heads, groups, eps = net.size("num_attention_heads"), net.size("num_key_value_heads"), float(net.config["rms_norm_eps"])

    def normed(x: Floats, gain: str) -> Floats:
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * tensors[f"{gain}.weight"])

    def linear(x: Floats, name: str) -> Floats:
        return np.asarray(x @ tensors[f"{name}.weight"].T)

    x = tensors["model.embed_tokens.weight"][tokens]
    count = tokens.shape[1]
    mask = np.triu(np.full((count, count), -np.inf), 1)
    for at in net.layers:
        h = normed(x, f"{at}input_layernorm")
        q, k, v = (linear(h, f"{at}self_attn.{n}_proj") for n in "qkv")
        q, k, v = (y.reshape(len(x), count, many, -1).transpose(0, 2, 1, 3) for y, many in ((q, heads), (k, groups), (v, groups)))
        q, k = (_turned(y, float(net.config["rope_parameters"]["rope_theta"])) for y in (q, k))
        k, v = (np.repeat(y, heads // groups, axis=1) for y in (k, v))
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]) + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(0, 2, 1, 3).reshape(len(x), count, -1), f"{at}self_attn.o_proj")
        h = normed(x, f"{at}post_attention_layernorm")
        gate = linear(h, f"{at}mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, f"{at}mlp.up_proj"), f"{at}mlp.down_proj")
    logits = linear(normed(x, "model.norm"), "lm_head" if "lm_head.weight" in tensors else "model.embed_tokens")
    logits -= logits.max(-1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def _turned(y: Floats, theta: float) -> Floats:
    """Rotary positions: numbers of the first half of a head beside those of the second."""
    half = y.shape[-1] // 2
    angles = np.arange(y.shape[2])[:, None] * theta ** (-np.arange(half) / half)
    first, second = y[..., :half], y[..., half:]
    return np.concatenate([first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)], axis=-1)
