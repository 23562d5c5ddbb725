"""The variables of a Keras layer as PyTorch has them: what each is, by what the layer is called and by their shapes.

Keras 3 numbers a layer's variables in the order in which the layer made them; older files and `model.save("x.h5")` name them.
https://keras.io/api/models/model_saving_apis/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from modelkin_indexer.sources.keras.hdf5 import Array

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
CELL = ("kernel", "recurrent_kernel", "bias")
SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
PLAIN = ("kernel", "bias")
LEAVES = {
    **{"kernel": "weight", "embedding": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var", "position_embeddings": "weight"},
    **{"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "pointwise.weight", "recurrent_kernel": "recurrent.weight"},
}
NUMBERED = re.compile(r"(?:^|(?<=\.))([A-Za-z_]*?(?:layers?|blocks?|h))_(?:\._)?(\d{1,5})(?=\.)")
QUERY = re.compile(r"(?:^|[._])(?:query|key|value|q|k|v)(?:[._]|$)")


@dataclass(frozen=True)
class Laid:
    """How an array lies: as the matrix `shape` [out, in], stored as it is or as its transpose, or with its axes in the order `axes`."""

    shape: tuple[int, ...]
    transposed: bool = False
    axes: tuple[int, ...] = ()


def leaves_of(layer: str, arrays: Sequence[Array]) -> tuple[str, ...]:
    """What the numbered variables of a layer are; "" of those that no rule knows."""
    axes = [len(array.shape) for array in arrays]
    if axes and max(axes) == 1:
        return tuple(NORM[: len(axes)]) if len(axes) <= len(NORM) else ("",) * len(axes)
    if "separable" in layer:
        found: Sequence[str] = SEPARABLE
    elif axes[:2] == [2, 2] and arrays[1].shape[1] == arrays[0].shape[1]:
        found = CELL
    elif "embed" in layer:
        found = ("embeddings", "")
    else:
        found = PLAIN
    return tuple(found[at] if at < len(found) else "" for at in range(len(axes)))


def spelt(path: Sequence[str], leaf: str) -> str:
    """A tensor's name as PyTorch would spell it."""
    dotted = ".".join([*path, LEAVES.get(leaf, leaf)]).replace("/", ".")
    return NUMBERED.sub(r"\1.\2", dotted)


def laid(name: str, leaf: str, shape: tuple[int, ...], width: int) -> Laid:
    """How a variable lies. `width` of the model tells which axes of a kernel with heads are inputs."""
    long = tuple(n for n in shape if n > 1) or shape[:1]
    if leaf == "bias" or "kernel" not in leaf:
        return Laid(long if leaf == "bias" and len(long) == 1 else (prod(shape),) if leaf == "bias" else shape)
    if len(shape) == 2:
        return Laid(shape[::-1], transposed=True)
    if ("depthwise" in name or "depthwise" in leaf) and len(shape) > 3:
        return Laid((shape[2] * shape[3], 1, *shape[:2]), axes=(2, 3, 0, 1))
    if len(shape) >= 4:
        order = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
        return Laid(tuple(shape[axis] for axis in order), axes=order)
    if len(shape) < 2:
        return Laid(shape)
    return _three(name, shape, width)


def _three(name: str, shape: tuple[int, ...], width: int) -> Laid:
    """A kernel of three axes: [in, heads, size], [heads, size, out], [heads, in, size], or of a convolution along one axis."""
    if "conv" in name:
        return Laid(shape[::-1], axes=(2, 1, 0))
    if shape[1] == width and shape[0] != width:
        return Laid((shape[0] * shape[2], shape[1]), axes=(0, 2, 1))
    reads = QUERY.search(name) is not None if (shape[0] == width) == (shape[2] == width) else shape[0] == width
    if reads:
        return Laid((shape[1] * shape[2], shape[0]), transposed=True)
    return Laid((shape[2], shape[0] * shape[1]), transposed=True)


def width_of(lengths: Mapping[int, int]) -> int:
    """The width of a model: how long most of its gains are."""
    return max(lengths, key=lambda length: (lengths[length], length), default=0)
