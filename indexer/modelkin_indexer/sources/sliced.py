"""Weights that were cut for several devices (`consolidated.00.pth`, `consolidated.01.pth`): every file holds a slice of every matrix.

Along which axis a matrix was cut follows from the width of the model, which is the length of its gains: the other axis is the cut one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from modelkin_indexer.errors import DamagedFile
from modelkin_indexer.places import TensorInfo
from modelkin_indexer.source import BITS, Source
from modelkin_indexer.sources.stored.files import FETCH_AGAIN

Bytes = npt.NDArray[np.uint8]
SLICE = re.compile(r"consolidated\.(\d{2})")
CUT_INPUTS = re.compile(
    r"(?:^|\.)(?:wo|w2|tok_embeddings)\.weight$"
)  # cut along their inputs where both axes are as long as the model is wide
ROWS, COLUMNS, SAME = 0, 1, 2


class SlicedSource:
    """The slices as one model (see `Source` for the attributes)."""

    def __init__(self, slices: Sequence[Source]) -> None:
        """Takes over the slices. Raises DamagedFile where they do not belong together."""
        first = slices[0]
        self._slices, self._axes = tuple(slices), _axes(slices)
        self.path, self.name, self.config, self.quantization = first.path, first.name, first.config, ""
        self.tensors: Mapping[str, TensorInfo] = {
            name: _joined(info, self._axes[name], len(slices)) for name, info in first.tensors.items()
        }
        self.files = tuple(file for source in slices for file in source.files)
        note = f"{len(slices)} files hold a slice of each matrix; they are read together."
        self.notes = (note, *dict.fromkeys(note for source in slices for note in source.notes))
        self.metadata: Mapping[str, str] = {}
        self.unread = tuple(entry for source in slices for entry in source.unread)
        self.bytes_read = self._bytes_read()

    def read(self, tensor: str, start: int, stop: int, out: Bytes | None = None) -> Bytes:
        """Bytes of the joined tensor: see `Source.read`."""
        info, axis = self.tensors[tensor], self._axes[tensor]
        if not 0 <= start <= stop <= info.nbytes:
            raise ValueError(f"bytes [{start}, {stop}) are not within the {info.nbytes} of tensor {tensor!r}")
        wanted = np.empty(stop - start, np.uint8) if out is None else out[: stop - start]
        if axis == SAME:
            self._slices[0].read(tensor, start, stop, wanted)
        elif axis == ROWS:
            self._read_rows(tensor, start, wanted)
        else:
            wanted[:] = self._read_columns(tensor, start, stop)
        self.bytes_read = self._bytes_read()
        return wanted

    def _read_rows(self, tensor: str, start: int, wanted: Bytes) -> None:
        size, done = self._slices[0].tensors[tensor].nbytes, 0
        while done < wanted.nbytes:
            number, inside = divmod(start + done, size)
            count = min(size - inside, wanted.nbytes - done)
            self._slices[number].read(tensor, inside, inside + count, wanted[done : done + count])
            done += count

    def _read_columns(self, tensor: str, start: int, stop: int) -> Bytes:
        """Whole rows around the bytes, each from a piece of every slice."""
        info = self._slices[0].tensors[tensor]
        width = info.nbytes // info.shape[0]
        row = width * len(self._slices)
        low, high = start // row, -(-stop // row)
        pieces = [source.read(tensor, low * width, high * width).reshape(high - low, width) for source in self._slices]
        return np.stack(pieces, axis=1).reshape(-1)[start - low * row : stop - low * row]

    def _bytes_read(self) -> int:
        return sum(source.bytes_read for source in self._slices)

    def close(self) -> None:
        for source in self._slices:
            source.close()


def are_slices(files: Sequence[Path]) -> bool:
    """Whether these files hold slices of one model, by their names."""
    found = [SLICE.match(file.name) for file in files]
    return len(files) > 1 and all(found)


def _axes(slices: Sequence[Source]) -> dict[str, int]:
    """Along which axis each tensor was cut."""
    first = slices[0]
    for source in slices[1:]:
        names = {name for name, info in source.tensors.items() if name in first.tensors and replace(info, name="") == _unnamed(first, name)}
        if names != set(first.tensors) or set(source.tensors) != names:
            raise DamagedFile("does not hold the same tensors as the first slice", path=source.path, remedy=FETCH_AGAIN)
    lengths = Counter(info.shape[0] for info in first.tensors.values() if len(info.shape) == 1)
    width = max(lengths, key=lambda length: (lengths[length], length), default=0)
    return {name: _axis(info, width) for name, info in first.tensors.items()}


def _unnamed(source: Source, name: str) -> TensorInfo:
    return replace(source.tensors[name], name="")


def _axis(info: TensorInfo, width: int) -> int:
    if len(info.shape) != 2:
        return SAME
    if info.shape[0] == info.shape[1] == width:
        return COLUMNS if CUT_INPUTS.search(info.name) else ROWS
    return COLUMNS if info.shape[0] == width or (info.shape[1] != width and CUT_INPUTS.search(info.name)) else ROWS


def _joined(info: TensorInfo, axis: int, count: int) -> TensorInfo:
    if axis == SAME:
        return info
    shape = tuple(n * count if number == axis else n for number, n in enumerate(info.shape))
    return replace(info, shape=shape, nbytes=prod(shape) * BITS[info.dtype] // 8)
