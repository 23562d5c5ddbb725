"""What both kinds of Paddle's files come down to: named arrays, and how they lie as PyTorch has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

from msgspec import Struct

from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS
from modelkin_indexer.sources.stored.decoded import Decoder, Presented
from modelkin_indexer.sources.stored.extents import Extent, OpenFiles, Parts
from modelkin_indexer.sources.stored.strided import Strided

# Paddle numbers parameters by the class of their layer. Its Linear keeps [in, out]; tables and all else are as in PyTorch.
LINEAR = re.compile(r"(?:^|/)(?:linear|fc|column_parallel_linear|row_parallel_linear)_\d+\.w_\d+(?:_deepcopy_\d+)?$")
OWN = re.compile(r"\.(w|b)_(\d)$")
NORM_LEAVES = {"w_0": "weight", "b_0": "bias", "w_1": "running_mean", "w_2": "running_var"}


class Stored(Struct, frozen=True):
    """An array. `own` is the name that Paddle made up for the parameter, by its layer's class; "" if that is not said.

    `parts`: (file, first byte, length); `held` are its bytes where it is small. `fortran`: the first axis is the fastest.
    """

    name: str
    own: str
    dtype: str
    shape: tuple[int, ...]
    parts: tuple[tuple[int, int, int], ...]
    held: bytes | None = None
    fortran: bool = False

    def presented(self, files: OpenFiles, biases: Mapping[str, tuple[int, ...]]) -> Presented:
        """What readers see of it. `biases`: the shapes of arrays by the names of what they may belong to."""
        extents = (Extent(0, 0, len(self.held), self.held),) if self.held is not None else tuple(Extent(*part) for part in self.parts)
        decoder: Decoder = Parts(self.name, extents, files)
        shape, nbytes = self.shape or (1,), prod(self.shape) * BITS[self.dtype] // 8
        is_linear = len(shape) == 2 and (LINEAR.search(self.own) is not None or biases.get(self.name) == shape[1:])
        if self.fortran and len(shape) > 1:
            vector = Presented(TensorInfo(self.name, self.dtype, (prod(shape),), nbytes), decoder)
            decoder = Strided(vector, files.paths[0], 0, shape, tuple(prod(shape[:axis]) for axis in range(len(shape))))
        return Presented(TensorInfo(self.name, self.dtype, shape[::-1] if is_linear else shape, nbytes, is_linear), decoder)


def plain_name(own: str) -> str:
    """A parameter's own name with the ending that PyTorch would give it."""
    found = OWN.search(own)
    if found is None:
        return own
    ending = f"{found[1]}_{found[2]}"
    return f"{own[: found.start()]}.{NORM_LEAVES[ending]}" if ending in NORM_LEAVES else own
