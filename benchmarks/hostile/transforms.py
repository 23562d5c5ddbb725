"""What changes the stored numbers of a Llama-shaped model and not what it computes. Tensors are float32, under names of transformers.

Each takes a model and gives another one. Sizes are of config.json, which the transforms that change them keep true.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # lets numpy know bfloat16
import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace
from safetensors.numpy import load_file

Singles = npt.NDArray[np.float32]
READING = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
WRITING = ("self_attn.o_proj", "mlp.down_proj")
TABLES = ("model.embed_tokens.weight", "lm_head.weight")


class Net(Struct, frozen=True):
    """A model: tensors, config.json, and the tokens in order of their numbers, None where its tokenizer is left out."""

    tensors: dict[str, Singles]
    config: dict[str, Any]
    tokens: tuple[str, ...] | None

    def size(self, name: str) -> int:
        return int(self.config[name])

    @property
    def layers(self) -> Iterable[str]:
        return [f"model.layers.{layer}." for layer in range(self.size("num_hidden_layers"))]

    def of(self, tensors: dict[str, Singles], **config: Any) -> Net:
        return replace(self, tensors={**self.tensors, **tensors}, config={**self.config, **config})


Transform = Callable[[Net, np.random.Generator], Net]


def loaded(folder: Path) -> Net:
    """The model in a folder with config.json, model.safetensors and tokenizer.json."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {name: values.astype(np.float32) for name, values in load_file(folder / "model.safetensors").items()}
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return Net(tensors, config, tuple(sorted(vocabulary, key=vocabulary.__getitem__)))


def untied(net: Net) -> Net:
    """With an output table of its own."""
    if "lm_head.weight" in net.tensors:
        return net
    return net.of({"lm_head.weight": net.tensors[TABLES[0]].copy()}, tie_word_embeddings=False)


def folded(net: Net, _: np.random.Generator) -> Net:
    """Gains multiplied into the matrices that read them, and set to one."""
    net = untied(net)
    found = {}
    for at in net.layers:
        for norm, readers in (("input_layernorm", READING[:3]), ("post_attention_layernorm", READING[3:])):
            gain = net.tensors[f"{at}{norm}.weight"]
            found |= {f"{at}{name}.weight": net.tensors[f"{at}{name}.weight"] * gain for name in readers}
            found[f"{at}{norm}.weight"] = np.ones_like(gain)
    gain = net.tensors["model.norm.weight"]
    return net.of(found | {"lm_head.weight": net.tensors["lm_head.weight"] * gain, "model.norm.weight": np.ones_like(gain)})


def _through(
    net: Net, reads: Callable[[Singles], Singles], writes: Callable[[Singles], Singles], gains: Callable[[Singles], Singles]
) -> Net:
    """The residual stream in other coordinates: what reads it, what writes it, and gains along it."""
    found = {}
    for name, values in net.tensors.items():
        stem = name.removesuffix(".weight")
        if name in TABLES or stem.endswith(READING):
            found[name] = reads(values)
        elif stem.endswith(WRITING):
            found[name] = writes(values)
        elif stem.endswith("norm") and values.size == net.size("hidden_size"):
            found[name] = gains(values)
    return net.of(found)


def rotated(net: Net, random: np.random.Generator) -> Net:
    """The residual stream turned, gains folded first."""
    net = folded(net, random)
    turn = np.linalg.qr(random.standard_normal((net.size("hidden_size"),) * 2))[0].astype(np.float32)
    return _through(net, lambda values: values @ turn, lambda values: turn.T @ values, lambda values: values)


def channels_permuted(net: Net, random: np.random.Generator) -> Net:
    order = random.permutation(net.size("hidden_size"))
    return _through(net, lambda values: values[:, order], lambda values: values[order], lambda values: values[order])


def signs_flipped(net: Net, random: np.random.Generator) -> Net:
    signs = random.choice(np.float32([-1, 1]), net.size("hidden_size"))
    return _through(net, lambda values: values * signs, lambda values: values * signs[:, None], lambda values: values)


def vocabulary_moved(net: Net, random: np.random.Generator) -> Net:
    """Tokens under other numbers, the tokenizer with them."""
    order = random.permutation(len(net.tensors[TABLES[0]]))
    moved = net.of({name: net.tensors[name][order] for name in TABLES if name in net.tensors})
    return replace(moved, tokens=None if net.tokens is None else tuple(net.tokens[n] if n < len(net.tokens) else "" for n in order))


def without_tokenizer(net: Net, _: np.random.Generator) -> Net:
    return replace(net, tokens=None)


def neurons_permuted(net: Net, random: np.random.Generator) -> Net:
    found = {}
    for at in net.layers:
        order = random.permutation(net.size("intermediate_size"))
        found |= {f"{at}mlp.{name}_proj.weight": net.tensors[f"{at}mlp.{name}_proj.weight"][order] for name in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = net.tensors[f"{at}mlp.down_proj.weight"][:, order]
    return net.of(found)


def heads_permuted(net: Net, random: np.random.Generator) -> Net:
    """Groups of heads that share keys, and the heads of a group."""
    heads, groups = net.size("num_attention_heads"), net.size("num_key_value_heads")
    found = {}
    for at in net.layers:
        outer = random.permutation(groups)
        inner = np.concatenate([group * (heads // groups) + random.permutation(heads // groups) for group in outer])
        for name, order in (("q", inner), ("k", outer), ("v", outer)):
            for kind in ("weight", "bias"):
                if (full := f"{at}self_attn.{name}_proj.{kind}") in net.tensors:
                    found[full] = _heads(net.tensors[full], len(order))[order].reshape(net.tensors[full].shape)
        out = net.tensors[f"{at}self_attn.o_proj.weight"]
        found[f"{at}self_attn.o_proj.weight"] = _heads(out.T, heads)[inner].reshape(out.T.shape).T
    return net.of(found)


def _heads(values: Singles, count: int) -> Singles:
    return values.reshape(count, len(values) // count, *values.shape[1:])


def keys_rescaled(net: Net, random: np.random.Generator) -> Net:
    """Each rotary pair of the keys times a number that the queries of its group take back."""
    heads, groups = net.size("num_attention_heads"), net.size("num_key_value_heads")
    found = {}
    for at in net.layers:
        width = len(net.tensors[f"{at}self_attn.k_proj.weight"]) // groups
        half = np.exp(random.uniform(-0.7, 0.7, (groups, 1, width // 2))).astype(np.float32)
        scale = np.concatenate([half, half], axis=2)
        for name, factor in (("k", scale), ("q", np.repeat(1 / scale, heads // groups, axis=1))):
            for kind in ("weight", "bias"):
                if (full := f"{at}self_attn.{name}_proj.{kind}") in net.tensors:
                    found[full] = (net.tensors[full].T * factor.reshape(-1)).T
    return net.of(found)


def values_turned(net: Net, random: np.random.Generator) -> Net:
    """The values of each group turned, and turned back in what reads them."""
    heads, groups = net.size("num_attention_heads"), net.size("num_key_value_heads")
    found = {}
    for at in net.layers:
        v, o = net.tensors[f"{at}self_attn.v_proj.weight"], net.tensors[f"{at}self_attn.o_proj.weight"]
        width = len(v) // groups
        turns = [np.linalg.qr(random.standard_normal((width, width)))[0].astype(np.float32) for _ in range(groups)]
        found[f"{at}self_attn.v_proj.weight"] = np.concatenate([turn @ part for turn, part in zip(turns, np.split(v, groups), strict=True)])
        if (bias := f"{at}self_attn.v_proj.bias") in net.tensors:
            found[bias] = np.concatenate([t @ part for t, part in zip(turns, np.split(net.tensors[bias], groups), strict=True)])
        parts = [part @ turns[number // (heads // groups)].T for number, part in enumerate(np.split(o, heads, axis=1))]
        found[f"{at}self_attn.o_proj.weight"] = np.concatenate(parts, axis=1)
    return net.of(found)


def units_rescaled(net: Net, random: np.random.Generator) -> Net:
    """Rows of up times numbers that columns of down take back."""
    found = {}
    for at in net.layers:
        factor = np.exp(random.uniform(-1, 1, net.size("intermediate_size"))).astype(np.float32)
        found[f"{at}mlp.up_proj.weight"] = net.tensors[f"{at}mlp.up_proj.weight"] * factor[:, None]
        found[f"{at}mlp.down_proj.weight"] = net.tensors[f"{at}mlp.down_proj.weight"] / factor
    return net.of(found)


def _replaced(net: Net, names: Iterable[str], parts: Callable[[str, Singles], dict[str, Singles]]) -> Net:
    """Matrices of all layers, each as several tensors of other names."""
    stems = [f"{at}{name}" for at in net.layers for name in names]
    found = {name: values for name, values in net.tensors.items() if name.removesuffix(".weight") not in stems}
    for stem in stems:
        found |= parts(stem, net.tensors[f"{stem}.weight"])
    return replace(net, tensors=found)


def as_products(net: Net, random: np.random.Generator) -> Net:
    """Each matrix as two, of which one is an orthogonal one."""

    def parts(stem: str, values: Singles) -> dict[str, Singles]:
        turn = np.linalg.qr(random.standard_normal((values.shape[1],) * 2))[0].astype(np.float32)
        return {f"{stem}.0.weight": turn.T, f"{stem}.1.weight": values @ turn}

    return _replaced(net, (*READING, *WRITING), parts)


def as_uneven_products(net: Net, random: np.random.Generator) -> Net:
    """Each matrix as two of other names, the inner one badly scaled and wider than need be."""

    def parts(stem: str, values: Singles) -> dict[str, Singles]:
        inner = values.shape[1] + 8
        first = random.standard_normal((inner, values.shape[1])) * np.exp(random.uniform(-0.5, 0.5, (inner, 1)))
        return {f"{stem}_a.weight": first.astype(np.float32), f"{stem}_b.weight": (values @ np.linalg.pinv(first)).astype(np.float32)}

    return _replaced(net, (*READING, *WRITING), parts)


def rows_split(net: Net, _: np.random.Generator) -> Net:
    def parts(stem: str, values: Singles) -> dict[str, Singles]:
        half = len(values) // 2
        return {f"{stem}_1.weight": values[:half], f"{stem}_2.weight": values[half:]}

    return _replaced(net, (*READING, *WRITING), parts)


def columns_split(net: Net, _: np.random.Generator) -> Net:
    def parts(stem: str, values: Singles) -> dict[str, Singles]:
        cut = values.shape[1] // 3
        return {f"{stem}.a.weight": values[:, :cut], f"{stem}.b.weight": values[:, cut:]}

    return _replaced(net, (*READING, *WRITING), parts)


def padded(net: Net, _: np.random.Generator) -> Net:
    """The residual stream wider by zeros; what is lost to the mean square of a wider stream, gains give back."""
    net = untied(net)
    width, more = net.size("hidden_size"), 32

    def wider(values: Singles, axis: int) -> Singles:
        around = [(0, 0)] * values.ndim
        around[axis] = (0, more)
        return np.pad(values, around)

    wide = _through(
        net,
        lambda values: wider(values, 1),
        lambda values: wider(values, 0),
        lambda values: wider(values, 0) * np.float32(np.sqrt(width / (width + more))),
    )
    return wide.of({}, hidden_size=width + more)


def units_padded(net: Net, _: np.random.Generator) -> Net:
    """Neurons of zeros."""
    return _more_units(net, lambda rows, width: np.zeros((rows, width), np.float32))


def null_units(net: Net, random: np.random.Generator) -> Net:
    """Neurons that look like others, of which nothing is read."""
    return _more_units(net, lambda rows, width: (0.02 * random.standard_normal((rows, width))).astype(np.float32))


def _more_units(net: Net, made: Callable[[int, int], Singles]) -> Net:
    more, found = net.size("intermediate_size") // 4, {}
    for at in net.layers:
        for name in ("gate", "up"):
            values = net.tensors[f"{at}mlp.{name}_proj.weight"]
            found[f"{at}mlp.{name}_proj.weight"] = np.concatenate([values, made(more, values.shape[1])])
        down = net.tensors[f"{at}mlp.down_proj.weight"]
        found[f"{at}mlp.down_proj.weight"] = np.pad(down, ((0, 0), (0, more)))
    return net.of(found, intermediate_size=net.size("intermediate_size") + more)
