"""Small models that libraries write in their own containers, with the weights taken out of the library's arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
WIDTH, NEURONS, TOKENS, LAYERS = 96, 320, 601, 4


@dataclass(frozen=True)
class Written:
    """A file or folder, and what it holds as PyTorch would lay it out."""

    path: Path
    truth: Arrays


@dataclass(frozen=True)
class Case:
    """How a form is written in a folder, by seed; which modules that needs, and to how many bits the weights were rounded."""

    write: Callable[[Path, int], Written]
    modules: tuple[str, ...]
    bits: int = 32


def uneven(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Random weights whose outputs, along the last axis, differ in size; gains and offsets around 1 and 0."""
    if len(shape) < 2:
        return (1 + 0.2 * rng.standard_normal(shape)).astype(np.float32)
    return (0.05 * rng.standard_normal(shape) * np.exp(0.3 * rng.standard_normal(shape[-1]))).astype(np.float32)


def llama_names(rng: np.random.Generator) -> Arrays:
    """The weights of a small llama, under its published names."""
    found = {"model.embed_tokens.weight": uneven(rng, (TOKENS, WIDTH)), "model.norm.weight": uneven(rng, (WIDTH,))}
    for layer in range(LAYERS):
        front = f"model.layers.{layer}."
        for role in ("q", "k", "v", "o"):
            found[f"{front}self_attn.{role}_proj.weight"] = uneven(rng, (WIDTH, WIDTH))
        found[f"{front}mlp.gate_proj.weight"] = uneven(rng, (NEURONS, WIDTH))
        found[f"{front}mlp.up_proj.weight"] = uneven(rng, (NEURONS, WIDTH))
        found[f"{front}mlp.down_proj.weight"] = uneven(rng, (WIDTH, NEURONS))
        found[f"{front}input_layernorm.weight"] = uneven(rng, (WIDTH,))
        found[f"{front}post_attention_layernorm.weight"] = uneven(rng, (WIDTH,))
    found["lm_head.weight"] = uneven(rng, (TOKENS, WIDTH))
    return found


def _keras_model(seed: int) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    layers, rng = keras.layers, np.random.default_rng(seed)
    tokens, image = keras.Input((24,), dtype="int32"), keras.Input((24, 24, 3))
    x = layers.Embedding(TOKENS, WIDTH, name="tokens")(tokens)
    for n in range(LAYERS):
        x = layers.LayerNormalization(name=f"norm_{n}")(x + layers.MultiHeadAttention(4, WIDTH // 4, name=f"attention_{n}")(x, x))
        hidden = layers.Dense(NEURONS, activation="gelu", name=f"up_{n}")(x)
        x = layers.LayerNormalization(name=f"norm_after_{n}")(x + layers.Dense(WIDTH, name=f"down_{n}")(hidden))
    y = layers.BatchNormalization()(layers.Conv2D(32, 3)(image))
    y = layers.DepthwiseConv2D(3)(layers.SeparableConv2D(24, 3)(y))
    y = layers.GlobalAveragePooling2D()(layers.Conv2DTranspose(16, 3)(y))
    both = layers.Concatenate()([layers.LSTM(WIDTH)(x), y])
    model = keras.Model([tokens, image], layers.Dense(11)(both))
    model.set_weights([uneven(rng, weight.shape) for weight in model.get_weights()])
    return model


def _keras_truth(model: Any) -> Arrays:
    """The weights as PyTorch lays them out: by the classes of the layers, which the reader does not see."""
    found: Arrays = {}
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            array, name = np.asarray(variable), f"{layer.name}.{variable.path}".replace("/", ".")
            kind = type(layer).__name__
            if array.dtype.kind != "f":
                continue
            if kind == "EinsumDense":
                if variable.name == "kernel":
                    reads = layer.name in ("query", "key", "value")
                    array = array.reshape(array.shape[0], -1).T if reads else array.reshape(-1, array.shape[-1]).T
                else:
                    array = array.reshape(-1)
            elif kind in ("Dense", "LSTMCell") and array.ndim == 2:
                array = array.T
            elif "depthwise" in variable.name or (kind == "DepthwiseConv2D" and array.ndim == 4):
                array = array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
            elif array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            found[name] = array
    return found


def keras_case(suffix: str, mode: str = "") -> Case:
    def write(folder: Path, seed: int) -> Written:
        model = _keras_model(seed)
        truth = _keras_truth(model)
        if mode:
            model.quantize(mode)
        path = folder / f"model{suffix}"
        (model.save_weights if suffix == ".weights.h5" else model.save)(path)
        return Written(path, truth)

    return Case(write, ("keras", "jax"), {"int8": 8, "int4": 4}.get(mode, 32))


CASES: dict[str, Case] = {
    "Keras .keras": keras_case(".keras"),
    "Keras .weights.h5": keras_case(".weights.h5"),
    "Keras .h5": keras_case(".h5"),
    "Keras .keras, int8": keras_case(".keras", "int8"),
    "Keras .weights.h5, int8": keras_case(".weights.h5", "int8"),
    "Keras .weights.h5, int4": keras_case(".weights.h5", "int4"),
}
