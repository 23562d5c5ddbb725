"""Names and layouts of Keras and Flax as PyTorch has them: kernels there are stored inputs first, channels last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Decoder, Presented
from modelkin_indexer.sources.stored.strided import Strided

LEAVES = {
    **{"kernel": "weight", "embedding": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias", "scale": "weight"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var", "position_embeddings": "weight"},
    **{"depthwise_kernel": "depthwise.weight", "pointwise_kernel": "pointwise.weight", "recurrent_kernel": "recurrent.weight"},
    **{"kernel_ih": "weight_ih_l0", "kernel_hh": "weight_hh_l0", "bias_ih": "bias_ih_l0", "bias_hh": "bias_hh_l0"},
}
NUMBERED = re.compile(r"(?:^|(?<=\.))([A-Za-z_]*?(?:layers?|blocks?|h))_(?:\._)?(\d{1,5})(?=\.)")
QUERY = re.compile(r"(?:^|[._/])(?:query|key|value|q|k|v)(?:[._/]|$)")


class Laid(Struct, frozen=True):
    """How an array lies: as the matrix `shape` [out, in], stored as it is or as its transpose, or with its axes in the order `axes`."""

    shape: tuple[int, ...]
    transposed: bool = False
    axes: tuple[int, ...] = ()


def spelt(path: Sequence[str], leaf: str) -> str:
    """A tensor's name as PyTorch would spell it."""
    dotted = ".".join([*path, LEAVES.get(leaf, leaf)]).replace("/", ".")
    return NUMBERED.sub(r"\1.\2", dotted)


def laid(name: str, leaf: str, shape: tuple[int, ...], width: int) -> Laid:
    """How a variable lies. `width` of the model tells which axes of a kernel with heads are inputs."""
    long = tuple(n for n in shape if n > 1) or shape[:1]
    if leaf == "bias":
        return Laid(long if len(long) == 1 else (prod(shape),))
    if "kernel" not in leaf or len(shape) < 2:
        return Laid(shape)
    if len(shape) == 2:
        return Laid(shape[::-1], transposed=True)
    if len(shape) == 3:
        return _three(name, shape, width)
    if "depthwise" in name or "depthwise" in leaf:
        return Laid((shape[-2] * shape[-1], 1, *shape[:-2]), axes=(len(shape) - 2, len(shape) - 1, *range(len(shape) - 2)))
    order = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
    return Laid(tuple(shape[axis] for axis in order), axes=order)


def _three(name: str, shape: tuple[int, ...], width: int) -> Laid:
    """A kernel of three axes: [in, heads, size], [heads, size, out], [heads, in, size], or of a convolution along one axis."""
    if "conv" in name:
        return Laid(shape[::-1], axes=(2, 1, 0))
    if shape[1] == width and shape[0] != width and shape[2] != width:
        return Laid((shape[0] * shape[2], shape[1]), axes=(0, 2, 1))
    reads = QUERY.search(name) is not None if (shape[0] == width) == (shape[2] == width) else shape[0] == width
    if reads:
        return Laid((shape[1] * shape[2], shape[0]), transposed=True)
    return Laid((shape[2], shape[0] * shape[1]), transposed=True)


def width_of(lengths: Mapping[int, int]) -> int:
    """The width of a model: how long most of its gains are."""
    return max(lengths, key=lambda length: (lengths[length], length), default=0)


def shown(name: str, dtype: str, shape: tuple[int, ...], lies: Laid, decoder: Decoder, path: Path) -> Presented:
    """An array of this shape, whose numbers in C order the decoder makes, as it was laid out."""
    nbytes = prod(shape) * BITS[dtype] // 8
    if not lies.axes:
        return Presented(TensorInfo(name, dtype, lies.shape, nbytes, lies.transposed), decoder)
    vector = Presented(TensorInfo(name, dtype, (prod(shape),), nbytes), decoder)
    steps = [prod(shape[at + 1 :]) for at in range(len(shape))]
    turned = Strided(vector, path, 0, tuple(shape[axis] for axis in lies.axes), tuple(steps[axis] for axis in lies.axes))
    return Presented(TensorInfo(name, dtype, lies.shape, nbytes), turned)
