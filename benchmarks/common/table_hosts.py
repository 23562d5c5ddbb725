"""Models that share nothing, to put tables into: small networks trained apart or not at all, and ones drawn as training leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from benchmarks.common.small_nets import KINDS, LAWS, start, state, trained

Tensors = dict[str, npt.NDArray[Any]]
SEEDS = 6  # of each kind of host; the first half of the networks is trained, each on its own task
HEAVY = 5.0  # degrees of freedom of the drawn numbers: trained matrices have longer tails than normal ones
LEARNED = 0.4  # of a drawn matrix's energy lies in a few directions, as training leaves it
DIRECTIONS = 6


class Host(Struct, frozen=True):
    """A model by what it is (hosts of one `kind` have the same names and shapes) and its tensors."""

    kind: str
    name: str
    tensors: Tensors


def hosts() -> Iterator[Host]:
    """All of them; every one has a seed of its own."""
    for number, kind in enumerate(KINDS):
        for n in range(SEEDS):
            seed = 70_000 + 100 * number + n
            net = start(kind, seed, LAWS[n % len(LAWS)])
            if n < SEEDS // 2:
                net = trained(net, kind.data(seed, 0), kind.lengths[1], kind.rate, seed)
            tensors: Tensors = dict(state(net))
            yield Host(kind.name, f"{kind.name}-{n}{'' if n < SEEDS // 2 else '-untrained'}", tensors)
    for number, (name, shapes) in enumerate(DRAWN.items()):
        for n in range(SEEDS):
            yield Host(name, f"{name}-{n}", drawn(shapes, 90_000 + 100 * number + n))


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> Tensors:
    """Matrices of heavy tails and a few learned directions, gains near 1, small biases."""
    rng = np.random.default_rng(seed)
    made: Tensors = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            around = 1.0 if name.endswith("weight") else 0.0
            made[name] = (around + (0.2 if around else 0.05) * rng.standard_normal(shape)).astype(np.float32)
            continue
        rows, columns = shape[0], int(np.prod(shape[1:]))
        noise = rng.standard_t(HEAVY, (rows, columns)) / np.sqrt(HEAVY / (HEAVY - 2))
        some = rng.standard_normal((rows, DIRECTIONS)) @ rng.standard_normal((DIRECTIONS, columns)) / np.sqrt(DIRECTIONS)
        matrix = np.sqrt(1 - LEARNED) * noise + np.sqrt(LEARNED) * some
        made[name] = (0.02 * matrix * rng.lognormal(0, 0.3, (rows, 1))).reshape(shape).astype(np.float32)
    return made


def _llama(size: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, size), "model.norm.weight": (size,)}
    for n in range(layers):
        at = f"model.layers.{n}."
        shapes |= {f"{at}self_attn.{part}_proj.weight": (size, size) for part in "qkvo"}
        shapes |= {f"{at}mlp.{part}_proj.weight": (2 * size, size) for part in ("gate", "up")}
        shapes |= {f"{at}mlp.down_proj.weight": (size, 2 * size)}
        shapes |= {f"{at}{part}_layernorm.weight": (size,) for part in ("input", "post_attention")}
    return shapes


def _gpt2(size: int, layers: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (vocabulary, size), "wpe.weight": (64, size)}
    for n in range(layers):
        parts = {"attn.c_attn": (size, 3 * size), "attn.c_proj": (size, size), "mlp.c_fc": (size, 4 * size), "mlp.c_proj": (4 * size, size)}
        for part, shape in parts.items():
            shapes |= {f"h.{n}.{part}.weight": shape, f"h.{n}.{part}.bias": shape[1:]}
        shapes |= {f"h.{n}.ln_{one}.{what}": (size,) for one in (1, 2) for what in ("weight", "bias")}
    return shapes


def _vit(size: int, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (size, 3, 8, 8), "patch_embed.proj.bias": (size,)}
    for n in range(layers):
        parts = {"attn.qkv": (3 * size, size), "attn.proj": (size, size), "mlp.fc1": (4 * size, size), "mlp.fc2": (size, 4 * size)}
        for part, shape in parts.items():
            shapes |= {f"blocks.{n}.{part}.weight": shape, f"blocks.{n}.{part}.bias": shape[:1]}
        shapes |= {f"blocks.{n}.norm{one}.{what}": (size,) for one in (1, 2) for what in ("weight", "bias")}
    return shapes | {"head.weight": (10, size), "head.bias": (10,)}


def _audio(width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for n, (before, after) in enumerate(((1, width), (width, 2 * width), (2 * width, 2 * width))):
        shapes |= {f"conv_block{n + 1}.conv1.weight": (after, before, 3, 3), f"conv_block{n + 1}.bn1.weight": (after,)}
        shapes |= {f"conv_block{n + 1}.bn1.bias": (after,)}
    return shapes | {"fc1.weight": (4 * width, 2 * width), "fc1.bias": (4 * width,), "fc_audioset.weight": (20, 4 * width)}


DRAWN = {
    "Llama of 64": _llama(64, 3, 300),
    "Llama of 128": _llama(128, 2, 500),
    "GPT-2 of 64": _gpt2(64, 3, 300),
    "ViT of 64": _vit(64, 3),
    "ViT of 96": _vit(96, 2),
    "audio net of 32": _audio(32),
}
