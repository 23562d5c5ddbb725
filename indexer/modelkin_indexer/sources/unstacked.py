"""Layers that a library keeps stacked in one tensor (JAX's `scan` over layers: MaxText, T5X, Flax models of others), seen one by one.

    params.decoder.layers.mlp.wi_0.kernel  [width, layers, neurons]   MaxText and T5X: the layers are axis 1
    model.encoder.layers.FlaxEncoderScannedLayers.fc1.kernel  [layers, width, neurons]    others: axis 0

A part of the names that is `layers` without a number, and one axis that is equally long in every tensor below it, gains of norms among
them: these are the layers. Each is read from its own bytes, under the name that an unstacked file gives it (`layers_3`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from msgspec.structs import replace

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS, Source, Unread

Bytes = npt.NDArray[np.uint8]
STACK = re.compile(r"(?:[A-Za-z]+_)*(?:layers?|blocks?|h)")  # a part of a name that a layer's number would follow
KERNEL, GAINS = "kernel", ("scale", "bias")  # leaves of Flax's names: matrices, and vectors, which have an axis more in a stack
FEWEST_KERNELS = 2  # of a stack: one alone is a matrix of three axes
AXES = (1, 0)  # where the layers may be
MOST_LAYERS = 1024  # a header may claim any number, and each becomes a tensor
SHORT_RUN = 4096  # bytes of one layer that stand together, from which they are read one by one: shorter ones with all between them
SPAN = 16 << 20  # bytes read at once for those


class Slice(Struct, frozen=True):
    """One layer of a stored tensor: along which axis, and which."""

    stored: str
    axis: int
    number: int


class UnstackedSource:
    """The layers one by one (see `Source` for the attributes)."""

    def __init__(self, whole: Source, slices: Mapping[str, Slice]) -> None:
        """`slices`: name -> layer of a stored tensor. What none of them shows keeps its name."""
        self._whole, self._slices = whole, dict(slices)
        stacked = {one.stored for one in slices.values()}
        kept = {name: info for name, info in whole.tensors.items() if name not in stacked}
        shown = {name: _layer(whole.tensors[one.stored], one.axis, name) for name, one in slices.items()}
        self.tensors: Mapping[str, TensorInfo] = dict(sorted((kept | shown).items()))
        self.path, self.name, self.files = whole.path, whole.name, whole.files
        self.config: Mapping[str, Any] = whole.config
        self.notes: tuple[str, ...] = (*whole.notes, f"{len(stacked)} tensors hold all layers of a stack; the layers are read one by one.")
        self.quantization, self.metadata = whole.quantization, whole.metadata
        self.unread: Unread = whole.unread
        self.bytes_read = whole.bytes_read

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """Bytes of a layer: see `Source.read`."""
        one = self._slices.get(tensor)
        if one is None:
            found = self._whole.read(tensor, start, stop, out)
            self.bytes_read = self._whole.bytes_read
            return found
        if not 0 <= start <= stop <= self.tensors[tensor].nbytes:
            raise ValueError(f"bytes [{start}, {stop}) are not within the {self.tensors[tensor].nbytes} of tensor {tensor!r}")
        wanted = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
        info = self._whole.tensors[one.stored]
        run = prod(info.shape[one.axis + 1 :]) * BITS[info.dtype] // 8
        for at, piece in self._pieces(one, info.shape[one.axis], run, start, stop):
            wanted[at - start : at - start + len(piece)] = piece
        self.bytes_read = self._whole.bytes_read
        return wanted

    def _pieces(self, one: Slice, layers: int, run: int, start: int, stop: int) -> Iterator[tuple[int, Bytes]]:
        """(position in the layer, bytes), where each `run` bytes of it stand together, `layers` times as far apart."""
        if one.axis == 0:
            yield start, self._whole.read(one.stored, one.number * run + start, one.number * run + stop)
            return
        many = 1 if run >= SHORT_RUN else max(1, SPAN // (run * layers))
        for first in range(start // run, -(-stop // run), many):
            last = min(first + many, -(-stop // run))
            low, high = max(start, first * run), min(stop, last * run)
            if many == 1:
                at = (first * layers + one.number) * run - first * run
                yield low, self._whole.read(one.stored, at + low, at + high)
            else:
                rows = self._whole.read(one.stored, first * layers * run, last * layers * run).reshape(last - first, layers, run)
                yield low, rows[:, one.number].reshape(-1)[low - first * run : high - first * run]

    def close(self) -> None:
        self._whole.close()


def layers_presented(source: Source) -> Source:
    """The source with every stacked layer by itself, or as it is where none is stacked."""
    slices = slices_of(source.tensors)
    return UnstackedSource(source, slices) if slices else source


def slices_of(tensors: Mapping[str, TensorInfo]) -> dict[str, Slice]:
    """The layers of what is stacked among these, all as Flax stores and names them: name -> layer. None where a name is taken."""
    slices: dict[str, Slice] = {}
    for (prefix, _), names in _stacks(tensors).items():
        axis = _axis([tensors[name] for name in names])
        if axis is None:
            continue
        wrapped = len({rest.partition(".")[0] for rest in names.values()}) == 1 and all(rest.startswith("Flax") for rest in names.values())
        for name, rest in names.items():
            inside = rest.partition(".")[2] if wrapped else rest
            for number in range(tensors[name].shape[axis]):
                slices[f"{prefix}_{number}.{inside}"] = Slice(name, axis, number)
    return slices if tensors.keys().isdisjoint(slices) else {}


def _stacks(names: Mapping[str, TensorInfo]) -> dict[tuple[str, int], dict[str, str]]:
    """(what a name begins with up to the stack, parts of that) -> name -> what follows, both with dots."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for name in names:
        parts = name.strip("/").replace("/", ".").split(".")
        at = next((at for at, part in enumerate(parts[:-2]) if STACK.fullmatch(part) and not parts[at + 1].isdecimal()), None)
        if at is not None:
            found.setdefault((".".join(parts[: at + 1]), at), {})[name] = ".".join(parts[at + 1 :])
    return {stack: below for stack, below in found.items() if sum(_leaf(rest) == KERNEL for rest in below.values()) >= FEWEST_KERNELS}


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _axis(infos: Sequence[TensorInfo]) -> int | None:
    """The axis that is equally long in all of these, gains among them; None without one, or with two."""
    plain = all(len(info.shape) > 1 and not info.transposed and BITS.get(info.dtype, 0) >= 8 for info in infos)
    has_gains = any(len(info.shape) == 2 and _leaf(info.name.replace("/", ".")) in GAINS for info in infos)
    if not plain or not has_gains:
        return None
    found = [axis for axis in AXES if len({info.shape[axis] for info in infos}) == 1 and 2 <= infos[0].shape[axis] <= MOST_LAYERS]
    return found[0] if len(found) == 1 else None


def _layer(info: TensorInfo, axis: int, name: str) -> TensorInfo:
    return replace(info, name=name, shape=(*info.shape[:axis], *info.shape[axis + 1 :]), nbytes=info.nbytes // info.shape[axis])
